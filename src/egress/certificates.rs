//! Certificates of private authorities, in PEM.

use x509_parser::prelude::{FromDer, Pem, X509Certificate};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Takes the certificates out of a PEM text, one text each with a line break at its end.
///
/// # Errors
/// The reason, in words that follow the name of the file.
pub(crate) fn parse(text: &str) -> Result<Vec<String>, String> {
    if text.contains("PRIVATE KEY-----") {
        return Err("holds a private key, which has to stay secret".into());
    }
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find(BEGIN) {
        let block = &rest[begin..];
        let Some(end) = block.find(END) else {
            return Err("is cut off in a certificate".into());
        };
        let block_end = end + END.len();
        let pem = format!("{}\n", block[..block_end].replace('\r', ""));
        let parsed = Pem::iter_from_buffer(pem.as_bytes()).next();
        let der = match parsed {
            Some(Ok(pem)) => pem.contents,
            _ => return Err("holds a certificate that is not PEM".into()),
        };
        X509Certificate::from_der(&der).map_err(|e| format!("holds a damaged certificate: {e}"))?;
        found.push(pem);
        rest = &block[block_end..];
    }
    if found.is_empty() {
        return Err("holds no certificate in PEM format (-----BEGIN CERTIFICATE-----)".into());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn certificates_are_taken_out_of_what_is_around_them() {
        let (a, b) = (certificate(), certificate());
        let text = format!("# ours\r\n{}between\n{b}", a.replace('\n', "\r\n"));
        let found = parse(&text).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].trim(), a.replace('\r', "").trim());
        assert_eq!(found[1].trim(), b.replace('\r', "").trim());
    }

    #[test]
    fn anything_else_is_refused_with_a_reason() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let good = certificate();
        for (text, words) in [
            (String::new(), "no certificate"),
            ("hello".into(), "no certificate"),
            (key, "private key"),
            (good[..good.len() - 30].to_owned(), "cut off"),
            (format!("{BEGIN}\nAAAA\n{END}\n"), "damaged"),
            (format!("{BEGIN}\n!!\n{END}\n"), "not PEM"),
        ] {
            let e = parse(&text).unwrap_err();
            assert!(e.contains(words), "{e} for {text}");
        }
    }
}
