//! Bodies of the fuzz targets, compiled and fed with the committed corpus by every test run too.

pub mod push_reply;
