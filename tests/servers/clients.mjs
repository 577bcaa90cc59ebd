// The clients that the authorization server knows.

import { createPublicKey, X509Certificate } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';

import { exportJWK, exportPKCS8, generateKeyPair } from 'jose';

import { JWT_BEARER, SAML2_BEARER, TOKEN_EXCHANGE } from './grants.mjs';

// Every character here means something in a form, in a URL, or in Basic credentials. ASCII only:
// RFC 6749 App. A.2 allows nothing else, and oidc-provider enforces it.
const RESERVED_SECRET = 'p@ss w:rd/%+&=?"~!*()\'';

export const SIGNING_ALGORITHMS = ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA'];

const SIGN_IN = {
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  redirect_uris: ['http://127.0.0.1/callback'],
};

// Those that need nothing. Users sign in to the `web` ones and to `public`: see `signIn`.
export const PLAIN_CLIENTS = [
  client('basic', 'client_secret_basic'),
  client('post', 'client_secret_post'),
  client('basic special:id/%+', 'client_secret_basic', { client_secret: RESERVED_SECRET }),
  client('post special:id/%+', 'client_secret_post', { client_secret: RESERVED_SECRET }),
  client('client_secret_jwt', 'client_secret_jwt', { client_secret: 'a secret of more than 32 bytes in all' }),
  client('grants', 'client_secret_basic', { grant_types: [TOKEN_EXCHANGE, JWT_BEARER, SAML2_BEARER] }),
  client('web', 'client_secret_basic', SIGN_IN),
  client('public', 'none', SIGN_IN),
  client('basic dpop', 'client_secret_basic', { dpop_bound_access_tokens: true, grant_types: ['client_credentials', TOKEN_EXCHANGE] }),
  client('web dpop', 'client_secret_basic', { ...SIGN_IN, dpop_bound_access_tokens: true }),
  client('public dpop', 'none', { ...SIGN_IN, dpop_bound_access_tokens: true }),
  // The API itself, which introspects opaque tokens.
  client('api', 'client_secret_basic', { grant_types: [] }),
];

function client(client_id, token_endpoint_auth_method, more) {
  return {
    client_id,
    client_secret: token_endpoint_auth_method.startsWith('client_secret') ? `secret of ${client_id}` : undefined,
    token_endpoint_auth_method,
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    ...more,
  };
}

// Those that sign an assertion, with a key for each algorithm in the directory: `client-ES256.pem`
// and `.jwk`. Not all of them without need: RSA keys take a second.
export async function signingClients(directory, algorithms) {
  const clients = await Promise.all(algorithms.map((alg) => signingClient(directory, alg)));
  const es256 = clients.find(({ token_endpoint_auth_signing_alg: alg }) => alg === 'ES256');
  return [...clients, { ...es256, client_id: 'private_key_jwt dpop', dpop_bound_access_tokens: true }];
}

async function signingClient(directory, alg) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  const jwk = { ...(await exportJWK(privateKey)), alg, kid: `client-${alg}` };
  mkdirSync(directory, { recursive: true });
  writeFileSync(`${directory}/client-${alg}.pem`, await exportPKCS8(privateKey), { mode: 0o600 });
  writeFileSync(`${directory}/client-${alg}.jwk`, JSON.stringify(jwk), { mode: 0o600 });
  const { d, p, q, dp, dq, qi, ...publicKey } = jwk;
  return client(`private_key_jwt ${alg}`, 'private_key_jwt', {
    jwks: { keys: [publicKey] },
    token_endpoint_auth_signing_alg: alg,
  });
}

// Those that present a certificate. `self-signed.pem` in the directory is registered as it is; of
// one that an authority has signed, a name is.
export async function certificateClients(directory) {
  const bound = { tls_client_certificate_bound_access_tokens: true };
  const selfSigned = new X509Certificate(readFileSync(`${directory}/self-signed.pem`));
  const pem = selfSigned.publicKey.export({ format: 'pem', type: 'spki' });
  const jwk = { ...(await exportJWK(createPublicKey(pem))), x5c: [selfSigned.raw.toString('base64')] };
  return [
    client('tls subject', 'tls_client_auth', { ...bound, tls_client_auth_subject_dn: 'CN=orders' }),
    client('tls name', 'tls_client_auth', { ...bound, tls_client_auth_san_dns: 'orders.example' }),
    client('self-signed', 'self_signed_tls_client_auth', { ...bound, jwks: { keys: [jwk] } }),
    client('basic bound', 'client_secret_basic', bound),
    client('web bound', 'client_secret_basic', { ...SIGN_IN, ...bound }),
    client('opaque bound', 'tls_client_auth', { ...bound, tls_client_auth_subject_dn: 'CN=orders' }),
  ];
}

// oidc-provider's feature: where the certificate is found, and how it is judged.
export const MUTUAL_TLS = {
  enabled: true,
  certificateBoundAccessTokens: true,
  selfSignedTlsClientAuth: true,
  tlsClientAuth: true,
  getCertificate,
  certificateAuthorized: (ctx) => ctx.req.socket.authorized,
  certificateSubjectMatches: (ctx, property, expected) => {
    const { subject, subjectAltName = '' } = getCertificate(ctx);
    switch (property) {
      case 'tls_client_auth_subject_dn': return subject === expected;
      case 'tls_client_auth_san_dns': return subjectAltName.split(', ').includes(`DNS:${expected}`);
      default: return false;
    }
  },
};

function getCertificate(ctx) {
  return ctx.req.socket.getPeerX509Certificate?.();
}
