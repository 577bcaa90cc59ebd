use jsonwebtoken::{DecodingKey, crypto};
use serde_json::json;

use super::{super::SigningAlgorithm, *};
use crate::secret::SecretSource;

/// RFC 7515 App. A.1.1: the payload of all its examples.
const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9p\
                       c19yb290Ijp0cnVlfQ";

/// RFC 7515 App. A.2.
const RSA: &str = r#"{"kty":"RSA","alg":"RS256","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB","d":"Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ","p":"4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc","q":"uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc","dp":"BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0","dq":"h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU","qi":"IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U"}"#;
const RSA_SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

/// RFC 7515 App. A.3.
const EC: &str = r#"{"kty":"EC","crv":"P-256","kid":"ec",
    "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    "d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}"#;

/// RFC 8037 App. A.1.
const ED25519: &str = r#"{"kty":"OKP","crv":"Ed25519",
    "d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

fn loaded(jwk: &str) -> (EncodingKey, Algorithm) {
    let loaded = SigningKey::jwk(jwk).load(&jwk.into()).unwrap();
    (loaded.key, loaded.algorithm.of_library())
}

fn raw(jwk: &str, message: &str) -> String {
    let (key, algorithm) = loaded(jwk);
    let signer = (DEFAULT_PROVIDER.signer_factory)(&algorithm, &key).unwrap();
    BASE64_URL_SAFE_NO_PAD.encode(signer.sign(message.as_bytes()))
}

/// Signing used to install the library's provider for the whole process, and then the application's
/// own `install_default().unwrap()` failed.
#[test]
fn signing_leaves_the_choice_of_a_provider_to_the_application() {
    let claims = json!({ "sub": "a" });
    Jws { typ: None, claims: &claims }.sign(&SigningKey::jwk(EC), &EC.into()).unwrap();
    assert!(DEFAULT_PROVIDER.install_default().is_ok(), "it has been made");
}

#[test]
fn jwt_06_the_published_signatures_come_out() {
    let message = format!("eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}");
    assert_eq!(raw(RSA, &message), RSA_SIGNATURE);
    let message = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_Mu\
                     M0KAg";
    assert_eq!(raw(ED25519, message), signature);
}

#[test]
fn jwt_06_an_es256_signature_is_64_bytes_and_verifies() {
    let message = format!("eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}");
    let signature = raw(EC, &message);
    assert_eq!(signature.len(), 86, "64 bytes in base64url");
    let public = DecodingKey::from_ec_components(
        "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    )
    .unwrap();
    let verifies = crypto::verify(&signature, message.as_bytes(), &public, Algorithm::ES256);
    assert!(verifies.unwrap());
}

#[test]
fn jwt_06_type_and_key_id_stand_in_the_header() {
    let claims = json!({"iss": "a"});
    let header = |typ, key: &SigningKey, text: &str| {
        let jws = Jws { typ, claims: &claims }.sign(key, &text.into()).unwrap();
        let first = jws.expose().split('.').next().unwrap().to_owned();
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(first);
        serde_json::from_slice::<Value>(&bytes.unwrap()).unwrap()
    };
    let typ = Some("client-authentication+jwt");
    let expected = json!({"typ": "client-authentication+jwt", "alg": "ES256", "kid": "ec"});
    assert_eq!(header(typ, &SigningKey::jwk(EC), EC), expected);
    let expected = json!({"alg": "ES256", "kid": "mine"});
    assert_eq!(header(None, &SigningKey::jwk(EC).key_id("mine"), EC), expected);
    assert_eq!(header(None, &SigningKey::jwk(ED25519), ED25519), json!({"alg": "EdDSA"}));
}

#[test]
fn jwt_06_what_cannot_sign_is_refused_and_not_repeated() {
    let claims = json!({});
    let jws = Jws { typ: None, claims: &claims };
    let pem = "-----BEGIN PRIVATE KEY-----\nbm90IGEga2V5\n-----END PRIVATE KEY-----";
    let wrong_size = EC.replace("jpsQnnGQmL", "jpsQ");
    let no_algorithm = RSA.replace("\"alg\":\"RS256\",", "");
    let none = RSA.replace("RS256", "none");
    let hmac = r#"{"kty":"oct","alg":"HS256","k":"c2VjcmV0"}"#;
    for text in ["", "hunter2", "{", "[]", "{}", hmac, &wrong_size, &no_algorithm, &none] {
        let error = jws.sign(&SigningKey::jwk(SecretSource::env("KEY")), &text.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credential, "{text}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2") && shown.contains("KEY"), "{shown}");
    }
    for algorithm in [SigningAlgorithm::Rs256, SigningAlgorithm::Es256, SigningAlgorithm::EdDsa] {
        let key = SigningKey::pem("", algorithm);
        for text in ["", "hunter2", pem] {
            assert!(jws.sign(&key, &text.into()).is_err(), "{algorithm:?} {text}");
        }
    }
}

#[test]
fn jwt_06_a_short_secret_does_not_sign() {
    let claims = json!({"iss": "a"});
    let jws = Jws { typ: None, claims: &claims };
    let error = sign_hs256(&jws, &"x".repeat(31).into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
    assert!(sign_hs256(&jws, &"x".repeat(32).into()).is_ok());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_a_key_reader_panic(text in ".{0,80}") {
        for key in [SigningKey::jwk(""), SigningKey::pem("", SigningAlgorithm::Ps256)] {
            let _ = key.load(&text.as_str().into()).map(drop);
        }
    }

    #[test]
    fn no_jwk_makes_a_key_reader_panic(
        kty in "RSA|EC|OKP|oct", crv in "P-256|P-384|Ed25519|x", d in "[A-Za-z0-9_=-]{0,70}",
    ) {
        let mut text = format!(r#"{{"kty":"{kty}","crv":"{crv}","alg":"ES256""#);
        for name in ["n", "e", "d", "p", "q", "dp", "dq", "qi", "x", "y"] {
            text.extend([",\"", name, "\":\"", &d, "\""]);
        }
        text.push('}');
        let claims = json!({});
        let _ = Jws { typ: None, claims: &claims }.sign(&SigningKey::jwk(""), &text.into());
    }
}
