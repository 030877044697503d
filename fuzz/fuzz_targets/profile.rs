#![cfg_attr(fuzzing, no_main)]
oxivpn_fuzz::target!(oxivpn_profile::fuzzing::run);
