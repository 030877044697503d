#![cfg_attr(fuzzing, no_main)]
oxivpn_fuzz::target!(oxivpn_proto::fuzzing::replay_vs_model::run);
