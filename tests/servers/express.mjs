// A protected API whose checks are not ours: express-oauth2-jwt-bearer, Auth0's middleware. It
// judges Bearer tokens, DPoP proofs and certificate-bound tokens; only JWTs.
//
//   node express.mjs --issuer URL [--port N] [--tls DIR]
//
// It answers as `api.mjs` does, where both can.

import { parseArgs } from 'node:util';

import express from 'express';
import { auth, requiredScopes } from 'express-oauth2-jwt-bearer';

import { listen, ready } from './serve.mjs';

const { values: options } = parseArgs({
  options: { issuer: { type: 'string' }, port: { type: 'string', default: '0' }, tls: { type: 'string' } },
});
const { issuer, tls } = options;

const answers = {};
const app = express();

// What the tests see: how many answers there were of each status.
app.get('/__test/stats', (_, response) => response.json({ answers }));

app.use((_, response, next) => {
  response.on('finish', () => (answers[response.statusCode] = (answers[response.statusCode] ?? 0) + 1));
  next();
});
app.use(auth({
  issuerBaseURL: issuer,
  audience: 'urn:test:jwt',
  tokenSigningAlg: 'ES256',
  clockTolerance: 1,
  dpop: { enabled: true, required: false },
  ...(tls && { getCertificate: (request) => request.socket.getPeerX509Certificate?.()?.toString() }),
}));
app.get('/scope/:scope', (request, response, next) => requiredScopes(request.params.scope)(request, response, next));
app.use(({ auth: { payload: { client_id: client, scope, sub, cnf }, token } }, response) => {
  response.json({ client, scope, sub, cnf, token });
});
app.use((error, _, response, next) => {
  if (!error.headers) return next(error);
  response.status(error.status).set(error.headers).json({});
});

const [server, url] = await listen(Number(options.port), { tls, requestCert: true });
server.on('request', app);
ready(url);
