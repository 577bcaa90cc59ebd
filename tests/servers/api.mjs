// A protected API that checks the access tokens it gets, as RFC 6750, RFC 8705 §3 and RFC 9449 §7
// say.
//
//   node api.mjs --issuer URL [--port N] [--tls DIR] [--dpop-nonces]
//
// It is a process of its own, so that it goes on while the authorization server is down. With
// --tls it asks clients for a certificate; with --dpop-nonces it takes no DPoP proof without one
// of its nonces.

import { createHash } from 'node:crypto';
import { parseArgs } from 'node:util';

import { createRemoteJWKSet, jwtVerify } from 'jose';

import { ALGORITHMS, newestNonce, proofError, rotateNonce } from './dpop.mjs';
import { listen, ready } from './serve.mjs';

const { values: options } = parseArgs({
  options: {
    issuer: { type: 'string' },
    port: { type: 'string', default: '0' },
    tls: { type: 'string' },
    'dpop-nonces': { type: 'boolean', default: false },
  },
});
const { issuer, tls } = options;
const needsNonce = options['dpop-nonces'];

// Fetched once, now: later the issuer may be down.
const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));
await keys.reload();
const refused = new Set();
const answers = {};

// `GET /` takes any good token, `GET /scope/write` one with the scope "write". A good answer shows
// whose token it was, and which.
async function answer(request) {
  const [, scheme, token] = /^(Bearer|DPoP) ([\w.~+/=-]+)$/i.exec(request.headers.authorization ?? '') ?? [];
  // RFC 6750 §3.1: without credentials, the challenge has no error code.
  if (!token) return challenge(401);

  const claims = refused.has(token) ? undefined : await verify(token);
  if (!claims) return challenge(401, { error: 'invalid_token' }, scheme);
  const wrong = await bindingError(request, scheme, token, claims.cnf ?? {});
  if (wrong) return challenge(401, wrong, scheme);

  const [, scope] = /^\/scope\/(\w+)/.exec(request.url) ?? [];
  if (scope && !claims.scope?.split(' ').includes(scope)) {
    return challenge(403, { error: 'insufficient_scope', scope }, scheme);
  }
  const { client_id: client, sub, act, cnf } = claims;
  return { status: 200, body: { client, scope: claims.scope, token, sub, act, cnf, scheme } };
}

// Whether the token is presented by whom it was given to.
async function bindingError(request, scheme, token, { jkt, 'x5t#S256': x5t }) {
  if (Boolean(jkt) !== (scheme.toLowerCase() === 'dpop')) {
    return { error: 'invalid_token', error_description: 'the scheme is not that of the token' };
  }
  if (jkt) {
    const { error, description } = await proofError(request, `${url}${request.url}`, token, jkt, needsNonce) ?? {};
    if (error) return { error, error_description: description.replace(/["\\]/g, '') };
  }
  if (x5t) {
    const certificate = request.socket.getPeerX509Certificate?.();
    const presented = certificate && createHash('sha256').update(certificate.raw).digest('base64url');
    if (presented !== x5t) {
      return { error: 'invalid_token', error_description: 'the certificate is not that of the token' };
    }
  }
}

function challenge(status, parameters = {}, scheme = 'Bearer') {
  const isDpop = scheme.toLowerCase() === 'dpop';
  const all = { ...(isDpop ? { algs: ALGORITHMS.join(' ') } : { realm: 'api' }), ...parameters };
  const text = Object.entries(all).map(([name, value]) => `${name}="${value}"`).join(', ');
  return { status, headers: { 'www-authenticate': `${isDpop ? 'DPoP' : 'Bearer'} ${text}` }, body: {} };
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
    case 'POST /__test/rotate-nonce': // there is a new DPoP nonce; ?expire=1 and it is the only one
      rotateNonce({ expire: searchParams.has('expire') });
      return {};
  }
}

const [server, url] = await listen(Number(options.port), { tls, requestCert: true });
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
  // RFC 9449 §8.2: the next nonce may come with any answer.
  if (needsNonce && request.headers.dpop) result.headers = { ...result.headers, 'dpop-nonce': newestNonce() };
  send(result);
});
ready(url);
