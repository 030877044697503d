pub(crate) fn cells() -> Vec<oxivpn_tests::matrix::Cell> {
    Vec::new()
}
