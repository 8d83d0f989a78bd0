//! The CEL rules of the API, by name.

pub(crate) const TARGET_IS_NOT_CREDENTIALS: &str = "!has(self.spec.credentials) || self.spec.credentials.secretName != (has(self.spec.target) && has(self.spec.target.secretName) ? self.spec.target.secretName : self.metadata.name)";

pub(crate) const REFRESH_TOKEN_SECRET_IS_ANOTHER: &str = "!has(self.spec.target) || !has(self.spec.target.refreshTokenSecretName)\
 || (self.spec.target.refreshTokenSecretName != (has(self.spec.target.secretName) ? self.spec.target.secretName : self.metadata.name)\
 && (!has(self.spec.credentials) || self.spec.target.refreshTokenSecretName != self.spec.credentials.secretName))";

/// A Secret that is the target cannot become the one for the refresh token, or the other way around: it would be written
/// before its content has been moved.
pub(crate) const REFRESH_TOKEN_SECRET_STAYS: &str = "!has(self.spec.target) || !has(oldSelf.spec.target)\
 || ((!has(self.spec.target.refreshTokenSecretName) || self.spec.target.refreshTokenSecretName != (has(oldSelf.spec.target.secretName) ? oldSelf.spec.target.secretName : self.metadata.name))\
 && (!has(oldSelf.spec.target.refreshTokenSecretName) || oldSelf.spec.target.refreshTokenSecretName != (has(self.spec.target.secretName) ? self.spec.target.secretName : self.metadata.name)))";

/// Without credentials there is neither a signing key nor a password.
pub(crate) const CREDENTIALS_NEEDED: &str = "has(self.credentials) || has(self.providerRef)\
 || (has(self.clientAuthentication) && self.clientAuthentication.method in ['service_account_token', 'none']\
 && (self.grantType == 'client_credentials'\
 || (self.grantType == 'token_exchange' && has(self.tokenExchange) && (self.tokenExchange.subjectTokenSource == 'ServiceAccount' || has(self.tokenExchange.subjectTokenFrom)))\
 || (self.grantType == 'jwt_bearer' && has(self.assertion) && has(self.assertion.from))))\
 || (self.grantType == 'jwt_bearer' && has(self.assertion) && has(self.assertion.from) && has(self.assertion.place) && self.assertion.place == 'AuthorizationHeader')";

/// What belongs to the provider.
pub(crate) const PROVIDER_FIELDS: &str = "!has(self.providerRef) || (!has(self.tokenEndpoint) && !has(self.issuer) && !has(self.protectedResource) && !has(self.clientId) && !has(self.clientAuthentication) && !has(self.connection) && !has(self.dpop)\
 && (!has(self.revocation) || (!has(self.revocation.endpoint) && !has(self.revocation.format)))\
 && (!has(self.renewal) || (!has(self.renewal.refresh) && (!has(self.renewal.fallback) || !has(self.renewal.fallback.tokenEndpoint)))))";
/// The defaults are always present.
pub(crate) const PROVIDER_REQUEST: &str = "!has(self.providerRef)\
 || ((!has(self.request) || (!has(self.request.method) && !has(self.request.secretsInQuery) && !has(self.request.format) && !has(self.request.contentType) && !has(self.request.body) && !has(self.request.query) && !has(self.request.parameters) && !has(self.request.parametersFrom) && !has(self.request.parameterNames) && !has(self.request.scopeFormat) && !has(self.request.headers) && !has(self.request.headersFrom) && duration(self.request.timeout) == duration('10s')))\
 && (!has(self.response) || (self.response.accessToken == 'access_token' && self.response.refreshToken == 'refresh_token' && self.response.expiresIn == 'expires_in' && !has(self.response.expiresAt) && !has(self.response.refreshTokenExpiresIn) && !has(self.response.refreshTokenExpiresAt) && !has(self.response.success) && !has(self.response.invalidGrant) && !has(self.response.error))))";
pub(crate) const PROVIDER_CREDENTIALS: &str = "!has(self.providerRef) || !has(self.credentials) || !has(self.credentials.keys)\
 || (!has(self.credentials.keys.clientId) && !has(self.credentials.keys.clientSecret) && !has(self.credentials.keys.nextClientSecret) && !has(self.credentials.keys.privateKey) && !has(self.credentials.keys.privateKeyPassphrase) && !has(self.credentials.keys.tlsCertificate) && !has(self.credentials.keys.tlsKey))";
/// Whoever chooses the claims of a JWT that the client signs can authenticate as the client.
pub(crate) const PROVIDER_ASSERTION: &str = "!has(self.providerRef) || (self.grantType != 'self_signed_jwt' && (!has(self.assertion)\
 || (!has(self.assertion.place) && !has(self.assertion.issuer) && !has(self.assertion.audience) && !has(self.assertion.claims) && !has(self.assertion.algorithm) && !has(self.assertion.keyId) && !has(self.assertion.lifetime) && !has(self.assertion.type) && !has(self.assertion.issuedAtSkew) && !has(self.assertion.notBefore) && !has(self.assertion.certificateThumbprint) && !has(self.assertion.certificateThumbprintSha1) && !has(self.assertion.certificateChain))))";

/// A token of another integration is the input of the grant itself, which depends on it.
pub(crate) const TOKEN_OF_ANOTHER: &str = "(!has(self.tokenExchange) || !has(self.tokenExchange.subjectTokenFrom) || self.grantType == 'token_exchange') && (!has(self.assertion) || !has(self.assertion.from) || self.grantType == 'jwt_bearer')";
/// Nothing is sent.
pub(crate) const SELF_SIGNED: &str = "self.grantType != 'self_signed_jwt' || (!has(self.tokenEndpoint) && !has(self.issuer) && !has(self.protectedResource) && !has(self.clientAuthentication) && !has(self.serviceAccountToken) && !has(self.connection) && !has(self.dpop) && !has(self.resource) && !has(self.scope) && !has(self.revocation) && (!has(self.assertion) || (!has(self.assertion.place) && !has(self.assertion.from))))";
/// Nothing is signed.
pub(crate) const ASSERTION_FROM: &str = "!has(self.from) || (!has(self.issuer) && !has(self.subject) && !has(self.audience) && !has(self.claims) && !has(self.algorithm) && !has(self.keyId) && !has(self.lifetime) && !has(self.type) && !has(self.issuedAtSkew) && !has(self.notBefore) && !has(self.certificateThumbprint) && !has(self.certificateThumbprintSha1) && !has(self.certificateChain))";
pub(crate) const SERVICE_ACCOUNT_TOKEN_GIVEN: &str = "has(self.serviceAccountToken) == ((has(self.clientAuthentication) && self.clientAuthentication.method == 'service_account_token') || (has(self.tokenExchange) && self.tokenExchange.subjectTokenSource == 'ServiceAccount'))";

pub(crate) const ENDPOINT: &str = r"isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != '' && self.matches('^https?://[^/?#@\\s]+([/?][^#\\s]*)?$')";

pub(crate) const TOKEN_LIFETIME: &str = r"self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('5s') && duration(self) <= duration('8760h')";
pub(crate) const RENEW_BEFORE: &str = r"self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('8760h')";
pub(crate) const JITTER: &str =
    r"self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) <= duration('8760h')";
pub(crate) const TIMEOUT: &str = r"self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('60s')";

pub(crate) const SECRET_NAME: &str =
    r"self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')";

/// A resource server could name another authorization server than the one that issued a refresh token.
pub(crate) const REFRESH_NEEDS_ISSUER: &str = "!has(self.protectedResource) || has(self.issuer) || (self.grantType != 'refresh_token' && (!has(self.renewal) || !has(self.renewal.strategy) || self.renewal.strategy != 'refresh_token'))";

/// Without credentials, no owner can allow a revocation endpoint with another origin.
pub(crate) const REVOCATION_ORIGIN: &str = "has(self.credentials) || has(self.serviceAccountToken) || !has(self.revocation) || !has(self.revocation.endpoint)\
 || (has(self.tokenEndpoint) && self.revocation.endpoint.startsWith(self.tokenEndpoint.find('^https?://[^/?]+') + '/'))\
 || (has(self.issuer) && self.revocation.endpoint.startsWith(self.issuer.find('^https?://[^/?]+') + '/'))";

pub(crate) const ASSERTION_LIFETIME: &str = r"self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('10s') && duration(self) <= duration('1h')";
pub(crate) const ISSUED_AT_SKEW: &str =
    r"self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) <= duration('5m')";
pub(crate) const SERVICE_ACCOUNT_TOKEN_LIFETIME: &str = r"self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('10m') && duration(self) <= duration('1h')";
pub(crate) const REVOKE_AFTER: &str = r"self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')";

/// The parameters of the grants, which `parameterNames` may rename.
pub(crate) const PARAMETER_NAMES: &str = "self.all(name, name in ['grant_type', 'client_id', 'client_secret', 'client_assertion', 'client_assertion_type', 'refresh_token', 'username', 'password', 'assertion', 'subject_token', 'subject_token_type', 'actor_token', 'actor_token_type', 'requested_token_type', 'scope'])";
pub(crate) const PARAMETER_NAMES_DISTINCT: &str = "self.all(name, self.exists_one(other, self[other] == self[name]))";

pub(crate) const DATA_NAMES: &str = r"self.all(name, name.matches('^[-._a-zA-Z0-9]+$') && size(name) <= 253)";
/// `data` must not use the key of another value.
pub(crate) const DATA_NOT_TOKENS: &str = "!has(self.data) || self.data.all(name, !(name in [\
 has(self.keys) ? self.keys.accessToken : 'access_token',\
 has(self.keys) ? self.keys.refreshToken : 'refresh_token',\
 has(self.keys) && has(self.keys.tokenType) ? self.keys.tokenType : '',\
 has(self.keys) && has(self.keys.expiresAt) ? self.keys.expiresAt : '',\
 has(self.keys) && has(self.keys.scope) ? self.keys.scope : '',\
 has(self.keys) && has(self.keys.previousAccessToken) ? self.keys.previousAccessToken : '',\
 has(self.keys) && has(self.keys.dpopKey) ? self.keys.dpopKey : 'dpop_key']))";

pub(crate) const RESOURCE_KEY: &str = "!(self in ['grant_type', 'client_id', 'client_secret', 'client_assertion', 'client_assertion_type', 'refresh_token', 'username', 'password', 'assertion', 'subject_token', 'actor_token', 'scope'])";

pub(crate) const HEADER_TEXT: &str =
    r"self.all(name, name.matches('^[A-Za-z0-9-]+$') && self[name].matches('^[ -~]*$'))";

pub(crate) const CONTENT_TYPE: &str =
    r"self.matches('^[A-Za-z0-9._+-]+/[A-Za-z0-9._+-]+(; ?[A-Za-z0-9_-]+=[A-Za-z0-9._-]+)*$')";
pub(crate) const HEADER_NAMES: &str = r"self.all(name, name.matches('^[A-Za-z0-9-]+$'))";

/// Values of the Secret that the request sends.
pub(crate) const CREDENTIALS_NEEDED_BY_REQUEST: &str = "has(self.credentials) || !has(self.request) || (!has(self.request.parametersFrom) && !has(self.request.headersFrom))";

/// With GET, a parameter is part of the URL.
pub(crate) const NO_SECRETS_IN_QUERY: &str = "!has(self.request) || !has(self.request.method) || self.request.method != 'GET' || (has(self.request.secretsInQuery) && self.request.secretsInQuery)\
 || (!has(self.request.parametersFrom) && (!has(self.renewal) || !has(self.renewal.strategy) || self.renewal.strategy != 'refresh_token')\
 && ((self.grantType == 'client_credentials' && has(self.clientAuthentication) && self.clientAuthentication.method in ['client_secret_basic', 'tls_client_auth', 'none'])\
 || (self.grantType == 'jwt_bearer' && has(self.assertion) && has(self.assertion.place) && self.assertion.place == 'AuthorizationHeader')))";

/// Proxies and servers reject larger headers, some of them by closing the connection: nginx accepts 32 KiB, many
/// others 8 KiB.
pub(crate) const HEADERS_SIZE: &str = "self.map(name, size(name) + size(self[name])).sum() <= 8192";

pub(crate) const TYPE_IMMUTABLE: &str = "self.type == oldSelf.type || (has(self.secretName) && (!has(oldSelf.secretName) || self.secretName != oldSelf.secretName))";
pub(crate) const SECRET_TYPE: &str =
    "!(self in ['kubernetes.io/service-account-token', 'bootstrap.kubernetes.io/token', 'helm.sh/release.v1'])";
pub(crate) const NAME_NOT_RESERVED: &str =
    "!self.startsWith('sh.helm.release.v1.') && !self.startsWith('bootstrap-token-')";

pub(crate) const NO_RESERVED_PREFIX: &str =
    "self.all(key, key != 'app.kubernetes.io/managed-by' && !key.startsWith('oauth.evolutionx.io/'))";
pub(crate) const LABELS: &str = r"self.all(key, key.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') && self[key].matches('^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$'))";
pub(crate) const ANNOTATIONS: &str = r"self.all(key, key.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))";

/// Compares each key with those before it, so that every pair is covered.
pub(crate) const DISTINCT_KEYS: &str = "self.accessToken != self.refreshToken\
 && (!has(self.tokenType) || !(self.tokenType in [self.accessToken, self.refreshToken]))\
 && (!has(self.expiresAt) || !(self.expiresAt in [self.accessToken, self.refreshToken, has(self.tokenType) ? self.tokenType : '']))\
 && (!has(self.scope) || !(self.scope in [self.accessToken, self.refreshToken, has(self.tokenType) ? self.tokenType : '', has(self.expiresAt) ? self.expiresAt : '']))\
 && (!has(self.dpopKey) || !(self.dpopKey in [self.accessToken, self.refreshToken, has(self.tokenType) ? self.tokenType : '', has(self.expiresAt) ? self.expiresAt : '', has(self.scope) ? self.scope : '']))\
 && (!has(self.previousAccessToken) || !(self.previousAccessToken in [self.accessToken, self.refreshToken, has(self.tokenType) ? self.tokenType : '', has(self.expiresAt) ? self.expiresAt : '', has(self.scope) ? self.scope : '', has(self.dpopKey) ? self.dpopKey : '']))";
