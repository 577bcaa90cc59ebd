// An authorization server that is not ours (oidc-provider, OpenID certified) and an API that
// checks the tokens it gets. The integration tests start one of these each.
//
//   node oidc.mjs --state DIR [--port N] [--api-port N] [--access-token-ttl SECONDS]
//
// Port 0, the default, is any free one. When both servers listen, one line of JSON on stdout tells
// where. The signing key is kept in DIR, so a JWT outlives a killed and restarted server; opaque
// and refresh tokens are in memory and do not. The process ends when its stdin closes: an aborted
// test leaves nothing behind. By hand: `sleep 1h | node oidc.mjs --state /tmp/oidc --port 9000`.

import { Console } from 'node:console';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { parseArgs } from 'node:util';

import { createRemoteJWKSet, exportJWK, generateKeyPair, jwtVerify } from 'jose';
import Provider, { errors } from 'oidc-provider';

// oidc-provider greets on stdout, which is for the one line that says "ready".
globalThis.console = new Console(process.stderr);
process.stdin.resume().on('end', () => process.exit());

const { values: options } = parseArgs({
  options: {
    state: { type: 'string' },
    port: { type: 'string', default: '0' },
    'api-port': { type: 'string', default: '0' },
    'access-token-ttl': { type: 'string', default: '3600' },
  },
});
const accessTokenTtl = Number(options['access-token-ttl']);
const signingKey = await loadOrCreateKey(options.state);

// Listen first: the issuer's name holds the port.
const [authorizationServer, issuer] = await listen(Number(options.port));
const [apiServer, api] = await listen(Number(options['api-port']));

// ---------------------------------------------------------------- authorization server

const RESOURCES = { 'urn:test:jwt': 'jwt', 'urn:test:opaque': 'opaque' };

// Every character here means something in a form, in a URL, or in Basic credentials. ASCII only:
// RFC 6749 App. A.2 allows nothing else, and oidc-provider enforces it.
const RESERVED_SECRET = 'p@ss w:rd/%+&=?"~!*()\'';

const clients = [
  client('basic', 'client_secret_basic'),
  client('post', 'client_secret_post'),
  client('basic special:id/%+', 'client_secret_basic', { client_secret: RESERVED_SECRET }),
  client('post special:id/%+', 'client_secret_post', { client_secret: RESERVED_SECRET }),
  // A user signed in to this one: see `issueRefreshToken`.
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

const provider = new Provider(issuer, {
  clients,
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
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
      getResourceServerInfo(_, resource) {
        if (!RESOURCES[resource]) throw new errors.InvalidTarget();
        return {
          scope: 'read write',
          audience: resource,
          accessTokenFormat: RESOURCES[resource],
          accessTokenTTL: accessTokenTtl,
          jwt: { sign: { alg: 'ES256' } },
        };
      },
    },
  },
  findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  jwks: { keys: [signingKey] },
  // Each refresh token works once; using one twice revokes all that came from the same sign-in.
  rotateRefreshToken: true,
  scopes: ['openid', 'offline_access', 'read', 'write'],
  ttl: { AccessToken: accessTokenTtl, ClientCredentials: accessTokenTtl, Grant: 3600, RefreshToken: 3600 },
});
provider.on('server_error', (_, error) => console.error(error));

provider.use(async (ctx, next) => {
  if (ctx.path.startsWith('/__test/')) {
    ctx.body = await control(`${ctx.method} ${ctx.path}`, ctx.query);
  } else if (ctx.path === '/token') {
    await next();
    if (ctx.body?.access_token) issued.add(ctx.body.access_token);
    stats.token_requests.push({
      at_ms: Date.now(),
      client: ctx.oidc?.client?.clientId ?? null,
      grant: ctx.oidc?.params?.grant_type ?? null,
      status: ctx.status,
    });
  } else {
    await next();
  }
});

// ---------------------------------------------------------------- what the tests see and steer

const stats = { token_requests: [], api_answers: {} };
const issued = new Set();
const refused = new Set();

async function control(request, query) {
  switch (request) {
    case 'GET /__test/stats': // every token request so far, and the API's answers by status
      return stats;
    case 'POST /__test/reset': // forget them
      return Object.assign(stats, { token_requests: [], api_answers: {} });
    case 'POST /__test/refuse': { // from now on the API refuses ?token=, or all issued so far
      const tokens = query.token ? [query.token] : [...issued];
      tokens.forEach((token) => refused.add(token));
      return { refused: tokens.length };
    }
    case 'POST /__test/refresh-token': // ?client=web&scope=read&resource=urn:test:jwt
      return issueRefreshToken(query);
    default:
      throw Object.assign(new Error(`no such control: ${request}`), { status: 404, expose: true });
  }
}

// What a sign-in of "alice" in a browser would lead to.
async function issueRefreshToken({ client: clientId, scope = 'read', resource = 'urn:test:jwt' }) {
  const client = await provider.Client.find(clientId);
  const accountId = 'alice';
  const grant = new provider.Grant({ accountId, clientId });
  grant.addResourceScope(resource, scope);
  const grantId = await grant.save();
  const gty = 'authorization_code';
  const token = new provider.RefreshToken({ accountId, client, grantId, gty, resource, scope });
  return { refresh_token: await token.save() };
}

// ---------------------------------------------------------------- API

// `GET /` takes any good token, `GET /scope/write` one with the scope "write".
async function answer(request) {
  const [, token] = /^Bearer ([\w.~+/=-]+)$/i.exec(request.headers.authorization ?? '') ?? [];
  // RFC 6750 §3.1: a request without credentials gets a challenge without an error code.
  if (!token) return challenge(401);

  const claims = refused.has(token) ? undefined : await verify(token).catch(() => undefined);
  if (!claims) return challenge(401, 'error="invalid_token"');

  const [, scope] = /^\/scope\/(\w+)/.exec(request.url) ?? [];
  if (scope && !claims.scope?.split(' ').includes(scope)) {
    return challenge(403, `error="insufficient_scope", scope="${scope}"`);
  }
  return { status: 200, body: { client: claims.client_id, sub: claims.sub, scope: claims.scope, token } };
}

function challenge(status, parameters) {
  const header = ['Bearer realm="api"', parameters].filter(Boolean).join(', ');
  return { status, headers: { 'www-authenticate': header }, body: {} };
}

const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));

async function verify(token) {
  if (token.split('.').length === 3) {
    // The claims count whole seconds, so a token of 3 s could be dead after 2.1 s. APIs commonly
    // allow for clocks that differ; this one for no more than the rounding.
    const rules = { issuer, audience: 'urn:test:jwt', typ: 'at+jwt', clockTolerance: 1 };
    return (await jwtVerify(token, keys, rules)).payload;
  }
  const credentials = Buffer.from('api:secret+of+api').toString('base64');
  const response = await fetch(`${issuer}/token/introspection`, {
    method: 'POST',
    headers: { authorization: `Basic ${credentials}` },
    body: new URLSearchParams({ token }),
  });
  const claims = await response.json();
  return claims.active ? claims : undefined;
}

async function serveApi(request, response) {
  request.resume();
  const { status, headers, body } = await answer(request);
  stats.api_answers[status] = (stats.api_answers[status] ?? 0) + 1;
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
}

// ---------------------------------------------------------------- start

authorizationServer.on('request', provider.callback());
apiServer.on('request', serveApi);
process.stdout.write(`${JSON.stringify({ ready: true, issuer, api })}\n`);

async function listen(port) {
  const server = http.createServer();
  await new Promise((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
  return [server, `http://127.0.0.1:${server.address().port}`];
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
