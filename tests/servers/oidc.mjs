// An authorization server that is not ours: oidc-provider, which is OpenID certified.
//
//   node oidc.mjs --state DIR [--port N] [--access-token-ttl SECONDS] [--signing-clients]
//
// It prints one line of JSON when it listens. The signing key is kept in DIR, so a JWT outlives a
// server that is killed and started again; opaque and refresh tokens are in memory and do not. By
// hand: `sleep 1h | node oidc.mjs --state /tmp/oidc --port 9000`.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

import { exportJWK, exportPKCS8, generateKeyPair } from 'jose';
import Provider, { errors } from 'oidc-provider';

import { listen, ready } from './serve.mjs';

const { values: options } = parseArgs({
  options: {
    state: { type: 'string' },
    port: { type: 'string', default: '0' },
    'access-token-ttl': { type: 'string', default: '3600' },
    'signing-clients': { type: 'boolean', default: false },
  },
});
const accessTokenTtl = Number(options['access-token-ttl']);

const RESOURCES = { 'urn:test:jwt': 'jwt', 'urn:test:opaque': 'opaque' };

// Every character here means something in a form, in a URL, or in Basic credentials. ASCII only:
// RFC 6749 App. A.2 allows nothing else, and oidc-provider enforces it.
const RESERVED_SECRET = 'p@ss w:rd/%+&=?"~!*()\'';

// Clients that sign an assertion, with a key for each of these in DIR: `client-ES256.pem` and
// `.jwk`. Only on demand: RSA keys take a second.
const SIGNING_ALGORITHMS = ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA'];

const clients = [
  client('basic', 'client_secret_basic'),
  client('post', 'client_secret_post'),
  client('basic special:id/%+', 'client_secret_basic', { client_secret: RESERVED_SECRET }),
  client('post special:id/%+', 'client_secret_post', { client_secret: RESERVED_SECRET }),
  client('client_secret_jwt', 'client_secret_jwt', { client_secret: 'a secret of more than 32 bytes in all' }),
  ...(options['signing-clients'] ? await Promise.all(SIGNING_ALGORITHMS.map(signingClient)) : []),
  // Users sign in to this one: see `signIn`.
  client('web', 'client_secret_basic', {
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    redirect_uris: ['http://127.0.0.1/callback'],
  }),
  // The API itself, which introspects opaque tokens.
  client('api', 'client_secret_basic', { grant_types: [] }),
];

function client(client_id, token_endpoint_auth_method, more) {
  return {
    client_id,
    client_secret: `secret of ${client_id}`,
    token_endpoint_auth_method,
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    ...more,
  };
}

async function signingClient(alg) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  const jwk = { ...(await exportJWK(privateKey)), alg, kid: `client-${alg}` };
  mkdirSync(options.state, { recursive: true });
  writeFileSync(`${options.state}/client-${alg}.pem`, await exportPKCS8(privateKey), { mode: 0o600 });
  writeFileSync(`${options.state}/client-${alg}.jwk`, JSON.stringify(jwk), { mode: 0o600 });
  const { d, p, q, dp, dq, qi, ...publicKey } = jwk;
  return client(`private_key_jwt ${alg}`, 'private_key_jwt', {
    client_secret: undefined,
    jwks: { keys: [publicKey] },
    token_endpoint_auth_signing_alg: alg,
  });
}

const jwks = { keys: [await loadOrCreateKey(options.state)] };
// Listen first: the issuer's name holds the port.
const [server, issuer] = await listen(Number(options.port));

const provider = new Provider(issuer, {
  clients,
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt'],
  enabledJWA: { clientAuthSigningAlgValues: ['HS256', ...SIGNING_ALGORITHMS] },
  cookies: { keys: ['not used: no browser comes here'] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
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
server.on('request', provider.callback());
ready(issuer);
