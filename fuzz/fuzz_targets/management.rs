//! What clients of the management interface send.

#![cfg_attr(fuzzing, no_main)]
oxivpn_fuzz::target!(oxivpn::manage::fuzzing::run);
