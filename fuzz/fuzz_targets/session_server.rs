//! A whole server with clients and strangers.

#![cfg_attr(fuzzing, no_main)]
oxivpn_fuzz::target!(oxivpn_proto::fuzzing::session_server::run);
