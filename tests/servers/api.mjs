// A protected API that checks the access tokens it gets, as RFC 6750 says.
//
//   node api.mjs --issuer URL [--port N]
//
// It is a process of its own, so that it goes on while the authorization server is down.

import { parseArgs } from 'node:util';

import { createRemoteJWKSet, jwtVerify } from 'jose';

import { listen, ready } from './serve.mjs';

const { values: options } = parseArgs({
  options: { issuer: { type: 'string' }, port: { type: 'string', default: '0' } },
});
const { issuer } = options;

// Fetched once, now: later the issuer may be down.
const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));
await keys.reload();
const refused = new Set();
const answers = {};

// `GET /` takes any good token, `GET /scope/write` one with the scope "write". A good answer shows
// whose token it was, and which.
async function answer(request) {
  const [, token] = /^Bearer ([\w.~+/=-]+)$/i.exec(request.headers.authorization ?? '') ?? [];
  // RFC 6750 §3.1: without credentials, the challenge has no error code.
  if (!token) return challenge(401);

  const claims = refused.has(token) ? undefined : await verify(token);
  if (!claims) return challenge(401, 'error="invalid_token"');

  const [, scope] = /^\/scope\/(\w+)/.exec(request.url) ?? [];
  if (scope && !claims.scope?.split(' ').includes(scope)) {
    return challenge(403, `error="insufficient_scope", scope="${scope}"`);
  }
  return { status: 200, body: { client: claims.client_id, scope: claims.scope, token } };
}

function challenge(status, parameters) {
  const header = ['Bearer realm="api"', parameters].filter(Boolean).join(', ');
  return { status, headers: { 'www-authenticate': header }, body: {} };
}

// The claims of a good token; nothing for a bad one.
async function verify(token) {
  return token.split('.').length === 3 ? verifyJwt(token) : introspect(token);
}

async function verifyJwt(token) {
  // The claims count whole seconds, so a token of 3 s may be dead after 2.1 s. APIs allow for
  // clocks that differ; this one for as much as the rounding.
  const rules = { issuer, audience: 'urn:test:jwt', typ: 'at+jwt', clockTolerance: 1 };
  try {
    return (await jwtVerify(token, keys, rules)).payload;
  } catch (error) {
    console.error(`api: refused a token: ${error.message}`);
  }
}

async function introspect(token) {
  const response = await fetch(`${issuer}/token/introspection`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from('api:secret+of+api').toString('base64')}` },
    body: new URLSearchParams({ token }),
  });
  const claims = await response.json();
  return claims.active ? claims : undefined;
}

// What the tests see and steer.
function control(method, { pathname, searchParams }) {
  switch (`${method} ${pathname}`) {
    case 'GET /__test/stats': // how many answers there were of each status
      return { answers };
    case 'POST /__test/refuse': // from now on ?token= is refused, as if it were revoked
      refused.add(searchParams.get('token'));
      return {};
  }
}

const [server, url] = await listen(Number(options.port));
server.on('request', async (request, response) => {
  const send = ({ status, headers, body }) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(JSON.stringify(body));
  };
  request.resume();
  if (request.url.startsWith('/__test/')) {
    const body = control(request.method, new URL(request.url, url));
    return send(body ? { status: 200, body } : { status: 404, body: {} });
  }
  const result = await answer(request).catch((error) => {
    console.error('api:', error);
    return { status: 500, body: {} };
  });
  answers[result.status] = (answers[result.status] ?? 0) + 1;
  send(result);
});
ready(url);
