//! Typed, bounded parse of PUSH_REPLY.
