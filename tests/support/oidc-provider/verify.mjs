// Verifies JWTs with jose, which oidc-provider uses. Standard input: a list of {jwt, key}, of which `key` is a public JWK, or absent
// if the header contains the certificate (x5c). Standard output: a list of {header, payload}.

import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import assert from 'node:assert/strict';

const require = createRequire(process.env.PACKAGES);
const { compactVerify, decodeProtectedHeader, importJWK, importX509 } = await import(require.resolve('jose'));

const results = [];
for (const { jwt, key } of JSON.parse(readFileSync(0, 'utf8'))) {
  const header = decodeProtectedHeader(jwt);
  const chain = (header.x5c ?? []).map((text) => {
    // RFC 7515, section 4.1.6: base64, not base64url.
    assert.equal(Buffer.from(text, 'base64').toString('base64'), text);
    return new X509Certificate(Buffer.from(text, 'base64'));
  });
  chain.slice(1).forEach((issuer, index) => assert.ok(chain[index].verify(issuer.publicKey), 'x5c is no chain'));
  for (const [name, hash] of [['x5t', 'sha1'], ['x5t#S256', 'sha256']]) {
    if (chain.length && header[name]) assert.equal(createHash(hash).update(chain[0].raw).digest('base64url'), header[name]);
  }
  const verifier = key ? await importJWK(key, header.alg) : await importX509(chain[0].toString(), header.alg);
  const { payload } = await compactVerify(jwt, verifier, { algorithms: [header.alg] });
  results.push({ header, payload: JSON.parse(Buffer.from(payload).toString()) });
}
console.log(JSON.stringify(results));
