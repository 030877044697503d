//! The TLS 1.0 PRF with OpenVPN's labels, for peers without exporter keys
//! (`openvpn: ssl.c`, `generate_key_expansion_openvpn_prf`).

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use zeroize::{Zeroize, Zeroizing};

use super::method2::{ClientSource, ServerSource};
use crate::wire::ids::SessionId;

/// The 256-byte key block of both sides' random values.
pub fn derive_block(
    client: &ClientSource,
    server: &ServerSource,
    client_session: SessionId,
    server_session: SessionId,
) -> Zeroizing<[u8; 256]> {
    let mut master = Zeroizing::new([0; 48]);
    prf(&*client.pre_master, b"OpenVPN master secret", &[&*client.random1, &*server.random1], &mut *master);
    let mut block = Zeroizing::new([0; 256]);
    let seeds: [&[u8]; 4] =
        [&*client.random2, &*server.random2, client_session.as_bytes(), server_session.as_bytes()];
    prf(&*master, b"OpenVPN key expansion", &seeds, &mut *block);
    block
}

/// `PRF(secret, label, seed) = P_MD5(S1, label + seed) xor P_SHA1(S2, label + seed)` (RFC 2246 section 5).
/// The halves of an odd secret overlap by one byte.
pub fn prf(secret: &[u8], label: &[u8], seeds: &[&[u8]], out: &mut [u8]) {
    let half = secret.len().div_ceil(2);
    let mut parts: Vec<&[u8]> = Vec::with_capacity(seeds.len() + 1);
    parts.push(label);
    parts.extend_from_slice(seeds);
    out.fill(0);
    xor_p_hash::<Hmac<Md5>>(&secret[..half], &parts, out);
    xor_p_hash::<Hmac<Sha1>>(&secret[secret.len() - half..], &parts, out);
}

fn xor_p_hash<M: Mac + KeyInit + Clone>(secret: &[u8], seed: &[&[u8]], out: &mut [u8]) {
    let keyed = <M as KeyInit>::new_from_slice(secret).expect("HMAC takes keys of any length");
    let mac = |first: Option<&[u8]>, with_seed: bool| {
        let mut mac = keyed.clone();
        if let Some(first) = first {
            mac.update(first);
        }
        if with_seed {
            seed.iter().for_each(|part| mac.update(part));
        }
        mac.finalize().into_bytes()
    };
    let mut a = mac(None, true);
    for chunk in out.chunks_mut(a.len()) {
        let mut block = mac(Some(&a), true);
        chunk.iter_mut().zip(&block).for_each(|(o, b)| *o ^= b);
        block.zeroize();
        a = mac(Some(&a), false);
    }
    a.zeroize();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_self_test_of_tls1_prf() {
        let mut out = [0; 8];
        prf(b"tls1-prf-test-secret", b"", &[b"tls1-prf-test"], &mut out);
        assert_eq!(hex::encode(out), "7144fe2540737595");
    }

    #[test]
    fn odd_secret_shares_its_middle_byte() {
        let (mut odd, mut whole) = ([0; 20], [0; 20]);
        prf(b"abc", b"l", &[b"s"], &mut odd);
        prf(b"abbc", b"l", &[b"s"], &mut whole);
        assert_eq!(odd, whole);
    }
}
