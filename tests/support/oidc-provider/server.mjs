// A certified OpenID provider on loopback, over TLS: private_key_jwt, client certificates, DPoP with nonces, resource
// indicators, revocation. Its clients are passed in the environment, because their keys are generated for each run.

import { readFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { createSecureServer } from 'node:http2';
import { createRequire } from 'node:module';

const require = createRequire(process.env.PACKAGES);
const { Provider } = await import(require.resolve('oidc-provider'));

const port = Number(process.env.PORT);
const issuer = `https://127.0.0.1:${port}`;

const provider = new Provider(issuer, {
  clients: JSON.parse(process.env.CLIENTS),
  scopes: ['read', 'offline_access'],
  rotateRefreshToken: true,
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'tls_client_auth', 'none',
  ],
  enabledJWA: { clientAuthSigningAlgValues: ['HS256', 'RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519'] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    revocation: { enabled: true },
    dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      tlsClientAuth: true,
      getCertificate: (ctx) => ctx.socket.getPeerX509Certificate()?.toString(),
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) =>
        property === 'tls_client_auth_subject_dn' && ctx.socket.getPeerX509Certificate().subject === expected,
    },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, resource) => ({
        scope: 'read', audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: 60, jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
  ttl: { AccessToken: 10, ClientCredentials: () => Number(process.env.LIFETIME), RefreshToken: 3600 },
});

const tls = {
  cert: readFileSync(process.env.CERTIFICATE),
  key: readFileSync(process.env.KEY),
  ca: readFileSync(process.env.CA),
  requestCert: true,
  rejectUnauthorized: false,
  allowHTTP1: true,
};
const respond = provider.callback();

// An unused refresh token of a client, as a login of a user would issue it.
const issue = async (clientId) => {
  const client = await provider.Client.find(clientId);
  const grant = new provider.Grant({ accountId: 'ada', clientId });
  grant.addOIDCScope('offline_access read');
  const token = new provider.RefreshToken({
    accountId: 'ada', client, grantId: await grant.save(), gty: 'authorization_code', scope: 'offline_access read',
  });
  return token.save();
};
const server = createSecureServer(tls, (request, response) => {
  console.log(`${request.method} ${request.url} HTTP/${request.httpVersion}`);
  const url = new URL(request.url, issuer);
  if (url.pathname === '/first-refresh-token') {
    issue(url.searchParams.get('client')).then((token) => response.end(token), (error) => {
      response.statusCode = 500;
      response.end(String(error));
    });
    return;
  }
  respond(request, response);
});
server.listen(port, '127.0.0.1', () => console.log('listening'));
