// What both servers share: how they listen, what they print, when they end.

import { Console } from 'node:console';
import http from 'node:http';

// Stdout is for the one line that says "ready"; libraries that greet do it on stderr.
globalThis.console = new Console(process.stderr);

// The test holds the other end of stdin. When it is gone, however it ended, so are we.
process.stdin.resume().on('end', () => process.exit());

// Listens on 127.0.0.1; port 0 is any free one. Returns the server and its URL.
export async function listen(port) {
  const server = http.createServer();
  await new Promise((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
  return [server, `http://127.0.0.1:${server.address().port}`];
}

export function ready(url) {
  process.stdout.write(`${JSON.stringify({ ready: true, url })}\n`);
}
