// How the API checks DPoP proofs (RFC 9449 §4.3, §9).

import { createHash, randomBytes } from 'node:crypto';

import { calculateJwkThumbprint, EmbeddedJWK, jwtVerify } from 'jose';

export const ALGORITHMS = ['ES256', 'EdDSA'];

const seen = new Set();
// Those that are good now, the newest last.
let nonces = [newNonce()];

function newNonce() {
  return randomBytes(12).toString('base64url');
}

export const newestNonce = () => nonces.at(-1);

// Makes a new nonce the newest. The one before it is good still; with `expire`, none of before is.
export function rotateNonce({ expire = false } = {}) {
  nonces = [...(expire ? [] : nonces.slice(-1)), newNonce()];
}

// What is wrong with a request's proof, as an error code and a description; nothing for a good one.
export async function proofError({ method, headers, rawHeaders }, url, token, thumbprint, needsNonce) {
  const bad = (description) => ({ error: 'invalid_dpop_proof', description });
  const fields = rawHeaders.filter((name, at) => at % 2 === 0 && name.toLowerCase() === 'dpop');
  if (fields.length !== 1) return bad(`${fields.length} proofs`);
  let proof;
  try {
    proof = await jwtVerify(headers.dpop, EmbeddedJWK, { typ: 'dpop+jwt', algorithms: ALGORITHMS });
  } catch (error) {
    return bad(error.message);
  }
  const { payload, protectedHeader: { jwk } } = proof;
  if (Object.keys(jwk).some((member) => ['d', 'p', 'q', 'k'].includes(member))) return bad('private key');
  if (payload.htm !== method) return bad('htm');
  // Without query and fragment, and otherwise byte for byte.
  if (payload.htu !== url.split('?')[0]) return bad(`htu is ${payload.htu}, not ${url}`);
  if (payload.ath !== createHash('sha256').update(token).digest('base64url')) return bad('ath');
  if (!(Math.abs(Date.now() / 1000 - payload.iat) <= 60)) return bad('iat');
  if (await calculateJwkThumbprint(jwk) !== thumbprint) return bad('jkt');
  if (needsNonce && !nonces.includes(payload.nonce)) return { error: 'use_dpop_nonce', description: 'a nonce is needed' };
  if (!payload.jti || seen.has(payload.jti)) return bad('jti was seen before');
  seen.add(payload.jti);
}
