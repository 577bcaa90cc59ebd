// What all servers share: how they listen, what they print, when they end.

import { Console } from 'node:console';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';

// Stdout is for the one line that says "ready"; libraries that greet do it on stderr.
globalThis.console = new Console(process.stderr);

// The test holds the other end of stdin. When it is gone, however it ended, so are we.
process.stdin.resume().on('end', () => process.exit());

// Listens on 127.0.0.1; port 0 is any free one. Returns the server and its URL.
//
// With `tls`, a directory that holds `ca.pem`, `server.pem` and `server-key.pem`, over HTTPS. With
// `requestCert` clients are asked for a certificate; whoever gets the request judges it.
export async function listen(port, { tls, requestCert } = {}) {
  const file = (name) => readFileSync(`${tls}/${name}.pem`);
  const server = tls
    ? https.createServer({ key: file('server-key'), cert: file('server'), ca: file('ca'), requestCert, rejectUnauthorized: false })
    : http.createServer();
  await new Promise((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
  return [server, `${tls ? 'https' : 'http'}://127.0.0.1:${server.address().port}`];
}

// `more` is what else the test is told, beside the URL.
export function ready(url, more) {
  process.stdout.write(`${JSON.stringify({ ready: true, url, ...more })}\n`);
}
