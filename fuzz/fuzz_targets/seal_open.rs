#![cfg_attr(fuzzing, no_main)]
oxivpn_fuzz::target!(oxivpn_proto::fuzzing::seal_open::run);
