//! Known answers of the control channel, as hex.

/// Client hard reset, key-id 0, message 0, no protection.
pub(crate) const PLAIN_CLIENT_RESET: &str = "3801020304050607080000000000";

/// Server hard reset, acks 0.
pub(crate) const PLAIN_SERVER_RESET: &str = "4011121314151617180100000000010203040506070800000000";

/// P_ACK_V1 of the client, acks 0.
pub(crate) const PLAIN_ACK: &str = "28010203040506070801000000001112131415161718";

/// Client hard reset, tls-auth SHA1, key-direction 1.
pub(crate) const AUTH_INVERSE_SHA1: &str =
    "380102030405060708aff471c9b26d2bea9b8e02196fe5c71bdf69cedd00000001660000000000000000";

/// The same without key-direction.
pub(crate) const AUTH_BOTH_SHA1: &str =
    "380102030405060708189f5150c1e7ed31a312ec75a95f5ea1bdac446700000001660000000000000000";

/// The same with key-direction 1 and SHA256.
pub(crate) const AUTH_INVERSE_SHA256: &str = concat!(
    "3801020304050607085f16ba8c06313bdd844d339fc84965fc9c78a99256ba8f6ee0d80d79af99580f00000001660000",
    "000000000000",
);

/// Server hard reset, tls-auth SHA1, key-direction 0, acks 0.
pub(crate) const AUTH_SERVER_SHA1: &str = concat!(
    "401112131415161718159c65599cb4a548159b6f1d051b39ba5afd53bb00000001660000000100000000010203040506",
    "070800000000",
);

/// Client hard reset, tls-crypt.
pub(crate) const CRYPT_CLIENT_RESET: &str = concat!(
    "3801020304050607080000000166000000aadc0b992fb70a7ead903acc7bd1fbcfb7faa18ece91cb208fd3209c82051e",
    "aa5c6bd3d750",
);

/// P_ACK_V1 of the client with replay id 2, tls-crypt.
pub(crate) const CRYPT_ACK: &str = concat!(
    "28010203040506070800000002660000004031dc9f99b58a6a34b2f0dd8523facf064f650f033e35855de4025bbdb120",
    "82909ec013e4987ec158f53c130b",
);

/// Server hard reset, tls-crypt, acks 0.
pub(crate) const CRYPT_SERVER_RESET: &str = concat!(
    "401112131415161718000000016600000073262ef562d9782028c17b603e048c8baf6df5f4df56cfd8b9cffcfcf748f3",
    "09c1ef36e45188e743e9458930a26f5b4a7b",
);

/// Client key wrapped without metadata.
pub(crate) const WKC_BARE: &str = concat!(
    "4d36dbbbdb2b23cdc6192b7272b69f1cd8382c6ba7a49a619e914969847496bc7965b7e609edd25b285703c27f1e1caa",
    "1d2ea05250ece9fcc9c593c5a68ddd30868c5be2951dafa30d0bcdc39ffa8e1ef0a92062184d5439bdc9861d46129448",
    "afa77323e91d496637d47c6d56e43c07763fef743c777d22139c0a51a7a5538bd3a48fa94d3c5fa8c24230b10060dcd7",
    "2cacb9a97f180223143f196ba9f9f42116595167fdb853dc9460d3d73967c120a964ca6abfe9e9394cfe396163195d4e",
    "122c29f974440fe8153a8a1a353d205cc22fd5850c0b4b927e73e7e0ca3be15b122fd05dc80849a00e07f649cc05ce83",
    "593ddf16c7e0da269383e7447a7243c6fbe5bdcd7152fa3da53dd2e24995d6e8a59eae49b0af14aa641a6f9b17bb69a4",
    "0122",
);

/// Client key wrapped with a time stamp.
pub(crate) const WKC_TIME: &str = concat!(
    "a75781166b0826c35adc51b71bba0c324f3624543fbe8953dc8c23ac05dcecd3cfcb53e87247009f6ed43422662988b0",
    "1807bc962f0775eb7be7aef3a62be511ee672d7dc5d9a48d5675eff235d59bbf289ab67876d67826f5f20a8fabbbcbd4",
    "786293d60b547505c4a9aad845499ec7cadb272e9de1711db199e9288e02767e366ee2506c65aad2fb57f6b89e7a773c",
    "4dcf6cdfcd6217473b33d2e2e6398f942e170630595a269978c44f535036583fc77bcc51d2da3e694e1fd54c197d1b29",
    "00fe68f626965216a97ff8bc2f3a4e10a5970227405531e4fe8323ed5d7b4ef518fff17adf5c2fe8b60eb5cbf95ce0ec",
    "4e9aad84128e6169dc75e6d8899c5ea6efc88a2e67e95093d0b29d09774c7746266fd2284e7cfef22c6250a39abd7cbc",
    "925649696eb4dcedb4012b",
);

/// HARD_RESET_CLIENT_V3 without the wrapped key behind it.
pub(crate) const V2_CLIENT_RESET: &str = concat!(
    "5001020304050607080f00000166000000a3665341dbc38392e5a1ac59f121de8051c7e203b336984b408e27208690ae",
    "352356901d57",
);

/// Server hard reset that asks for the wrapped key again.
pub(crate) const V2_SERVER_RESET: &str = concat!(
    "40111213141516171800000001660000009738b64402227617b6a54c203667a33ad98420706487db97aee74f2925f500",
    "b386adf2930fbbd3725e0315a7e3ddca6924892b677b0633",
);

/// SHAKE256("EKM", 256 bytes), in place of what the TLS exporter gives.
pub(crate) const EXPORTED: &str = concat!(
    "40bbdc110a169525d4547adedd43895c263b7e18d07caf6bb11d26f7336c3fc87a2500c5954819ec5861777450170e6c",
    "1d99592f3b8be960517ed8e318665b557ec7d385b83b46c79be794e595b61be5013dcd0c1d8e502430c15b0de220ae59",
    "073341af62b1af541d51332cfe626800a31a8c87acfae631df1b04508cfad947b2dd06d632c299c78da7f53a5224c786",
    "ddab57b404c915a602ac53b5baf24a597bffff26d7978e54f03aeca63933845b447a269ce8b616d4d095fc0466a624ba",
    "89f844f3965352e0b7ee1b4177ac453c63378a8ef3875e629b329a5034fa6517b881aa826abc76ffd68541c13942f965",
    "a78cbd01b1261df221820b81a59df7b3",
);

/// Dynamic tls-crypt: Ke with which the client sends.
pub(crate) const DYNAMIC_CLIENT_KE: &str = "325c8455b6471f40052e7fb1dea949094d3ac527905c83319a35c92e266fd4c6";

/// Dynamic tls-crypt: Ka with which the client sends.
pub(crate) const DYNAMIC_CLIENT_KA: &str = "49398630529694277f27d18abb618bf3b3e6585d275288b543eb408be827bbc8";

/// Dynamic tls-crypt: Ke with which the server sends.
pub(crate) const DYNAMIC_SERVER_KE: &str = "40bade120e139322dc5d70d5d14e8753362a6c0bc469b97ca9043cec2f7121d7";

/// Dynamic tls-crypt: Ka with which the server sends.
pub(crate) const DYNAMIC_SERVER_KA: &str = "3e8691c6fc7e0080d3aedeaed9fb55aa516c9f5f49db067368980156be7df006";

/// SOFT_RESET_V1 of the client with key-id 1, dynamic tls-crypt.
pub(crate) const DYNAMIC_SOFT_RESET: &str = concat!(
    "19010203040506070800000001660000001ecb10050d6e074a9feb97b5a1ffcff1071f2c4633c92f8a683d80c0280eca",
    "5e63d6754943",
);
