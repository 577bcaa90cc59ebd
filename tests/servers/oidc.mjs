// An authorization server that is not ours: oidc-provider, which is OpenID certified.
//
//   node oidc.mjs --state DIR [--port N] [--access-token-ttl SECONDS] [--signing-clients]
//                 [--tls DIR] [--dpop-nonces]
//
// It prints one line of JSON when it listens. The signing key is kept in DIR, so a JWT outlives a
// server that is killed and started again; opaque and refresh tokens are in memory and do not. By
// hand: `sleep 1h | node oidc.mjs --state /tmp/oidc --port 9000`.
//
// With --tls it listens on a second port too, where it asks for client certificates: the metadata
// has it as `mtls_endpoint_aliases`. With --dpop-nonces it takes no DPoP proof without a nonce.

import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

import { exportJWK, generateKeyPair } from 'jose';
import Provider, { errors } from 'oidc-provider';

import { certificateClients, MUTUAL_TLS, PLAIN_CLIENTS, SIGNING_ALGORITHMS, signingClients } from './clients.mjs';
import { ALGORITHMS as DPOP_ALGORITHMS } from './dpop.mjs';
import { assertion, registerGrants } from './grants.mjs';
import { listen, ready } from './serve.mjs';

const { values: options } = parseArgs({
  options: {
    state: { type: 'string' },
    port: { type: 'string', default: '0' },
    'access-token-ttl': { type: 'string', default: '3600' },
    'signing-clients': { type: 'boolean', default: false },
    tls: { type: 'string' },
    'dpop-nonces': { type: 'boolean', default: false },
  },
});
const { state, tls } = options;
const accessTokenTtl = Number(options['access-token-ttl']);

const RESOURCES = { 'urn:test:jwt': 'jwt', 'urn:test:opaque': 'opaque' };

const clients = [
  ...PLAIN_CLIENTS,
  ...(await signingClients(state, options['signing-clients'] ? SIGNING_ALGORITHMS : ['ES256'])),
  ...(tls ? await certificateClients(tls) : []),
];

const jwks = { keys: [await loadOrCreateKey(state)] };
// Listen first: the issuer's name holds the port.
const [server, issuer] = await listen(Number(options.port), { tls });
const [aliasServer, alias] = tls ? await listen(0, { tls, requestCert: true }) : [];

const provider = new Provider(issuer, {
  clients,
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'none',
    ...(tls ? ['tls_client_auth', 'self_signed_tls_client_auth'] : []),
  ],
  enabledJWA: {
    clientAuthSigningAlgValues: ['HS256', ...SIGNING_ALGORITHMS],
    dPoPSigningAlgValues: DPOP_ALGORITHMS,
  },
  cookies: { keys: ['not used: no browser comes here'] },
  ...(tls && { discovery: { mtls_endpoint_aliases: aliases(alias) } }),
  // Whose token it is, where a grant of ours says so.
  formats: { customizers: { jwt: (_, token, { payload }) => Object.assign(payload, token.claimsOfGrant) } },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => options['dpop-nonces'] },
    ...(tls && { mTLS: MUTUAL_TLS }),
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true, allowedPolicy: (_, client, token) => token.clientId === client.clientId },
    resourceIndicators: {
      enabled: true,
      defaultResource: (_, __, oneOf) => oneOf ?? 'urn:test:jwt',
      useGrantedResource: () => true,
      getResourceServerInfo,
    },
  },
  findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  jwks,
  // Each refresh token works once; using one twice revokes all that came from the same sign-in.
  rotateRefreshToken: true,
  scopes: ['openid', 'offline_access', 'read', 'write'],
  ttl: { AccessToken: accessTokenTtl, ClientCredentials: accessTokenTtl, Grant: 3600, RefreshToken: 3600 },
});

await registerGrants(provider, jwks.keys, getResourceServerInfo);

// RFC 8705 §5
function aliases(url) {
  return {
    token_endpoint: `${url}/token`,
    revocation_endpoint: `${url}/token/revocation`,
    introspection_endpoint: `${url}/token/introspection`,
  };
}

function getResourceServerInfo(_, resource) {
  if (!RESOURCES[resource]) throw new errors.InvalidTarget();
  return {
    scope: 'read write',
    audience: resource,
    accessTokenFormat: RESOURCES[resource],
    accessTokenTTL: accessTokenTtl,
    jwt: { sign: { alg: 'ES256' } },
  };
}

// What the tests see and steer.
const tokenRequests = [];

provider.use(async (ctx, next) => {
  if (ctx.path.startsWith('/__test/')) {
    const body = await control(ctx);
    if (body) ctx.body = body; // else Koa answers 404
    return;
  }
  await next();
  if (ctx.path === '/token') {
    tokenRequests.push({
      at_ms: Date.now(),
      client: ctx.oidc?.client?.clientId ?? null,
      grant: ctx.oidc?.params?.grant_type ?? null,
      status: ctx.status,
    });
  }
});

function control({ method, path, query }) {
  switch (`${method} ${path}`) {
    case 'GET /__test/stats': // every token request so far, as it was answered
      return { token_requests: tokenRequests };
    case 'POST /__test/reset': // forget them
      tokenRequests.length = 0;
      return {};
    case 'POST /__test/sign-in': // ?client=web&scope=read&resource=urn:test:jwt
      return signIn(query);
    case 'POST /__test/assertion': // ?subject=alice: a JWT about her that is believed here
      return assertion(issuer, query.subject).then((jwt) => ({ assertion: jwt }));
  }
}

// What would be there after "alice" had signed in, in a browser: a refresh token.
async function signIn({ client: clientId, scope = 'read', resource = 'urn:test:jwt' }) {
  const client = await provider.Client.find(clientId);
  const accountId = 'alice';
  const grant = new provider.Grant({ accountId, clientId });
  grant.addResourceScope(resource, scope);
  const grantId = await grant.save();
  const gty = 'authorization_code';
  const token = new provider.RefreshToken({ accountId, client, grantId, gty, resource, scope });
  return { refresh_token: await token.save() };
}

async function loadOrCreateKey(directory) {
  const file = `${directory}/signing-key.json`;
  if (!existsSync(file)) {
    const { privateKey } = await generateKeyPair('ES256', { extractable: true });
    const jwk = { ...(await exportJWK(privateKey)), alg: 'ES256', use: 'sig', kid: 'test' };
    mkdirSync(directory, { recursive: true });
    writeFileSync(file, JSON.stringify(jwk), { mode: 0o600 });
  }
  return JSON.parse(readFileSync(file, 'utf8'));
}

provider.on('server_error', (_, error) => console.error(error));
for (const each of [server, aliasServer]) each?.on('request', provider.callback());
ready(issuer, { alias });
