//! A server's door.

#![cfg_attr(fuzzing, no_main)]
oxivpn_fuzz::target!(oxivpn_proto::fuzzing::doorman::run);
