// Grants that oidc-provider leaves to whoever runs it: token exchange (RFC 8693), and the bearer
// assertions of RFC 7523 and RFC 7522.

import { createLocalJWKSet, exportJWK, generateKeyPair, jwtVerify, SignJWT } from 'jose';
import { errors } from 'oidc-provider';
import { checkDpopReplay, checkDpopRequired, checkMtlsCert, validateDpop } from 'oidc-provider/lib/helpers/grants.js';

export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
export const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
export const SAML2_BEARER = 'urn:ietf:params:oauth:grant-type:saml2-bearer';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const JWT = 'urn:ietf:params:oauth:token-type:jwt';

// Somebody else whose assertions are believed.
const trusted = await generateKeyPair('ES256');

// A JWT about somebody, as an identity provider would sign it.
export function assertion(issuer, subject) {
  return new SignJWT({}).setProtectedHeader({ alg: 'ES256', kid: 'trusted' }).setIssuer('https://sts.example').setSubject(subject)
    .setAudience(issuer).setIssuedAt().setExpirationTime('5m').sign(trusted.privateKey);
}

// `ownKeys` are those that the provider's access tokens are signed with.
export async function registerGrants(provider, ownKeys, resourceServer) {
  const ours = ownKeys.map(({ d, ...publicKey }) => publicKey);
  const theirs = { ...(await exportJWK(trusted.publicKey)), alg: 'ES256', kid: 'trusted' };
  const keys = createLocalJWKSet({ keys: [...ours, theirs] });

  const subjectOf = async (token, type) => {
    if (![ACCESS_TOKEN, JWT].includes(type)) throw new errors.InvalidRequest(`unsupported token type ${type}`);
    if (token.split('.').length !== 3) {
      const found = (await provider.AccessToken.find(token)) ?? (await provider.ClientCredentials.find(token));
      if (!found) throw new errors.InvalidRequest('the token is not active');
      return found.accountId ?? found.clientId;
    }
    const { payload } = await jwtVerify(token, keys).catch(() => {
      throw new errors.InvalidRequest('the token is not valid');
    });
    return payload.sub;
  };

  // Gives a token whose claims say on whose behalf it is.
  const grant = async (ctx, claims, more) => {
    const { client, params } = ctx.oidc;
    const dpop = await validateDpop(provider, ctx);
    checkDpopRequired(provider, ctx, dpop);
    const certificate = checkMtlsCert(provider, ctx);
    const token = new provider.ClientCredentials({ client, scope: params.scope });
    const [resource = 'urn:test:jwt'] = [params.resource ?? []].flat();
    token.resourceServer = new provider.ResourceServer(resource, resourceServer(ctx, resource));
    token.claimsOfGrant = claims;
    if (certificate) token.setThumbprint('x5t', certificate);
    if (dpop) {
      await checkDpopReplay(provider, ctx, dpop, client.clientId);
      token.setThumbprint('jkt', dpop.thumbprint);
    }
    ctx.oidc.entity('ClientCredentials', token);
    ctx.body = {
      access_token: await token.save(),
      token_type: token.tokenType,
      expires_in: token.expiration,
      scope: token.scope || undefined,
      ...more,
    };
  };

  const required = (params, name) => params[name] ?? (() => {
    throw new errors.InvalidRequest(`missing required parameter '${name}'`);
  })();

  provider.registerGrantType(TOKEN_EXCHANGE, async (ctx) => {
    const { params } = ctx.oidc;
    const sub = await subjectOf(required(params, 'subject_token'), required(params, 'subject_token_type'));
    const actor = params.actor_token && await subjectOf(params.actor_token, required(params, 'actor_token_type'));
    await grant(ctx, { sub, ...(actor && { act: { sub: actor } }) }, { issued_token_type: ACCESS_TOKEN });
  }, ['resource', 'audience', 'scope', 'requested_token_type', 'subject_token', 'subject_token_type', 'actor_token', 'actor_token_type'], ['resource', 'audience']);

  provider.registerGrantType(JWT_BEARER, async (ctx) => {
    const audience = [provider.issuer, `${provider.issuer}/token`];
    const { payload } = await jwtVerify(required(ctx.oidc.params, 'assertion'), keys, { audience, requiredClaims: ['exp', 'sub'] }).catch((error) => {
      throw new errors.InvalidGrant(`the assertion is not valid: ${error.message}`);
    });
    await grant(ctx, { sub: payload.sub });
  }, ['assertion', 'scope', 'resource'], ['resource']);

  provider.registerGrantType(SAML2_BEARER, async (ctx) => {
    // RFC 7522 §2.1: base64url. Its signature is left unchecked: this is about the request.
    const text = required(ctx.oidc.params, 'assertion');
    const xml = /^[\w-]+=*$/.test(text) ? Buffer.from(text, 'base64url').toString() : '';
    const [, sub] = /<(?:\w+:)?NameID[^>]*>([^<]+)</.exec(xml) ?? [];
    if (!sub) throw new errors.InvalidGrant('the assertion names nobody');
    await grant(ctx, { sub });
  }, ['assertion', 'scope', 'resource'], ['resource']);
}
