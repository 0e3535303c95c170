#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tokens of PyJWT (PyPI: pyjwt, cryptography) and damaged ones, for tests/serve/test_jwt.c: make_jwt.py > jwt.json

Each case: name, kid set ("three": all keys, "one": the RSA key alone), token, and why it is refused (null: it is good).
"""
import base64
import hashlib
import hmac
import json

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

NOW = 1790000000
SECRET = "0123456789abcdef0123456789abcdef"


def pem(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


RSA, OTHER, SMALL = (rsa.generate_private_key(public_exponent=65537, key_size=n) for n in (2048, 2048, 1024))
EC, EC384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
GOOD = {"iss": "https://login.example", "aud": "graft", "exp": NOW + 600, "iat": NOW - 10, "sub": "ada",
        "adapter": "finance", "tenant": "money"}


def b64(data):
    data = data if isinstance(data, bytes) else data.encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**changes):
    out = {**GOOD, **changes}
    return {name: value for name, value in out.items() if value is not None}


def rs(payload=GOOD, key=RSA, alg="RS256", kid="rsa", **headers):
    headers = {**({"kid": kid} if kid is not None else {}), **headers}
    return jwt.encode(payload, key, algorithm=alg, headers=headers)


def raw(header, payload, sign=lambda text: b"x"):
    text = b64(header if isinstance(header, str) else json.dumps(header)) + "." + \
        b64(payload if isinstance(payload, str) else json.dumps(payload))
    return text + "." + b64(sign(text.encode()))


def by_rsa(header, payload):
    """Signed over exactly these texts."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding
    return raw(header, payload, lambda text: RSA.sign(text, padding.PKCS1v15(), hashes.SHA256()))


def by_hmac(header, payload, key):
    return raw(header, payload, lambda text: hmac.new(key, text, hashlib.sha256).digest())


R = {"alg": "RS256", "typ": "JWT", "kid": "rsa"}
token = rs()
head, body, sig = token.split(".")
hs = jwt.encode(GOOD, SECRET, algorithm="HS256", headers={"kid": "hmac"})
es = jwt.encode(GOOD, EC, algorithm="ES256", headers={"kid": "ec"})
last = sig[-1]
letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
loose = letters[letters.index(last) ^ 1]  # another last letter for the same bytes
cases = [
    ("RS256", "three", token, None),
    ("HS256", "three", hs, None),
    ("ES256", "three", es, None),
    ("no kid, one key", "one", rs(kid=None), None),
    ("audiences", "three", rs(claims(aud=["other", "graft"])), None),
    ("expired within the skew", "three", rs(claims(exp=NOW - 59, iat=NOW - 600)), None),
    ("begins within the skew", "three", rs(claims(nbf=NOW + 59)), None),
    ("no adapter, no tenant", "three", rs(claims(adapter=None, tenant=None)), None),
    ("adapters", "three", rs(claims(adapter=None, adapters=["finance", "mail-*"])), None),
    ("no adapter at all", "three", rs(claims(adapter=None, adapters=[])), None),
    ("typ at+jwt", "three", rs(typ="at+jwt"), "jwt type"),
    ("alg none", "three", raw({"alg": "none", "kid": "rsa"}, GOOD), "jwt algorithm"),
    ("alg none without signature", "three", raw({"alg": "none", "kid": "rsa"}, GOOD, lambda text: b""), "jwt form"),
    ("alg nOnE", "one", raw({"alg": "nOnE"}, GOOD), "jwt algorithm"),
    ("alg rs256", "three", by_rsa({**R, "alg": "rs256"}, GOOD), "jwt algorithm"),
    ("no alg", "three", by_rsa({"kid": "rsa"}, GOOD), "jwt algorithm"),
    ("alg a number", "three", by_rsa({"alg": 256, "kid": "rsa"}, GOOD), "jwt algorithm"),
    ("RS384", "three", rs(alg="RS384"), "jwt algorithm"),
    ("PS256", "three", rs(alg="PS256"), "jwt algorithm"),
    ("the public key as an HMAC secret", "three", by_hmac({"alg": "HS256", "kid": "rsa"}, GOOD, pem(RSA).encode()),
     "jwt algorithm"),
    ("the same without kid", "one", by_hmac({"alg": "HS256"}, GOOD, pem(RSA).encode()), "jwt algorithm"),
    ("the secret's kid with the public key", "three", by_hmac({"alg": "HS256", "kid": "hmac"}, GOOD, pem(RSA).encode()),
     "jwt signature"),
    ("an empty secret", "three", by_hmac({"alg": "HS256", "kid": "hmac"}, GOOD, b""), "jwt signature"),
    ("another RSA key", "three", rs(key=OTHER), "jwt signature"),
    ("RS256 for ES256's kid", "three", rs(kid="ec"), "jwt algorithm"),
    ("ES256, r and s zero", "three", raw({"alg": "ES256", "kid": "ec"}, GOOD, lambda text: bytes(64)), "jwt signature"),
    ("ES256, short", "three", raw({"alg": "ES256", "kid": "ec"}, GOOD, lambda text: bytes(8)), "jwt signature"),
    ("no signature", "three", head + "." + body + ".", "jwt form"),
    ("two parts", "three", head + "." + body, "jwt form"),
    ("one part", "three", head, "jwt form"),
    ("four parts", "three", token + "." + sig, "jwt form"),
    ("empty", "three", "", "jwt form"),
    ("dots", "three", "..", "jwt form"),
    ("padding", "three", head + "." + body + "." + sig + "==", "jwt form"),
    ("not base64url", "three", head + "." + body + "." + sig[:-1] + "+", "jwt form"),
    ("bits left over", "three", head + "." + body + "." + sig[:-1] + loose, "jwt form"),
    ("a blank", "three", head + "." + body + "." + sig[:10] + " " + sig[10:], "jwt form"),
    ("a changed claim", "three", head + "." + b64(json.dumps(claims(adapter="legal"))) + "." + sig, "jwt signature"),
    ("a signature cut", "three", head + "." + body + "." + sig[:-6], "jwt signature"),
    ("crit", "three", rs(crit=["exp"], exp=1), "jwt header"),
    ("jku", "three", rs(jku="https://evil.example/keys"), "jwt header"),
    ("x5u", "three", rs(x5u="https://evil.example/cert"), "jwt header"),
    ("jwk", "three", rs(jwk={"kty": "oct", "k": "AA"}), "jwt header"),
    ("typ JWE", "three", rs(typ="JWE"), "jwt type"),
    ("kid unknown", "three", rs(kid="nobody"), "jwt unknown kid"),
    ("no kid, three keys", "three", rs(kid=None), "jwt unknown kid"),
    ("kid unknown, one key", "one", rs(kid="nobody"), "jwt unknown kid"),
    ("kid a path", "three", rs(kid="../../dev/null"), "jwt unknown kid"),
    ("kid SQL", "three", rs(kid="x' UNION SELECT 'k"), "jwt unknown kid"),
    ("kid a number", "one", by_rsa({"alg": "RS256", "kid": 1}, GOOD), "jwt unknown kid"),
    ("kid with NUL", "three", by_rsa({"alg": "RS256", "kid": "rsa\0x"}, GOOD), "jwt form"),  # jansson takes no NUL
    ("alg twice", "three", by_rsa('{"alg":"none","alg":"RS256","kid":"rsa"}', GOOD), "jwt form"),
    ("aud twice", "three", by_rsa(R, '{"aud":"other",' + json.dumps(GOOD)[1:]), "jwt form"),
    ("header an array", "three", by_rsa("[]", GOOD), "jwt form"),
    ("claims a text", "three", by_rsa(R, '"x"'), "jwt form"),
    ("claims no JSON", "three", by_rsa(R, "{"), "jwt form"),
    ("over 8 KiB", "three", rs(claims(note="x" * 8192)), "jwt form"),
    ("exp missing", "three", rs(claims(exp=None)), "jwt times"),
    ("exp past", "three", rs(claims(exp=NOW - 60)), "jwt expired"),
    ("exp a float", "three", by_rsa(R, json.dumps(claims(exp=NOW + 10.5))), "jwt times"),
    ("exp 1e300", "three", by_rsa(R, json.dumps(GOOD).replace(str(NOW + 600), "1e300")), "jwt times"),
    ("exp beyond 64 bits", "three", by_rsa(R, json.dumps(GOOD).replace(str(NOW + 600), "99999999999999999999")), "jwt form"),
    ("exp a text", "three", by_rsa(R, json.dumps(claims(exp=str(NOW + 600)))), "jwt times"),
    ("exp negative", "three", rs(claims(exp=-1)), "jwt times"),
    ("exp years away", "three", rs(claims(exp=NOW + 4000)), "jwt lifetime"),
    ("nbf future", "three", rs(claims(nbf=NOW + 61)), "jwt not yet valid"),
    ("nbf a float", "three", by_rsa(R, json.dumps(claims(nbf=1.5))), "jwt times"),
    ("iat future", "three", rs(claims(iat=NOW + 61)), "jwt not yet valid"),
    ("iat negative", "three", rs(claims(iat=-5)), "jwt times"),
    ("aud wrong", "three", rs(claims(aud="other")), "jwt audience"),
    ("aud missing", "three", rs(claims(aud=None)), "jwt audience"),
    ("aud longer", "three", rs(claims(aud="graft2")), "jwt audience"),
    ("aud an object", "three", by_rsa(R, json.dumps(claims(aud={"graft": 1}))), "jwt audience"),
    ("aud with a number", "three", by_rsa(R, json.dumps(claims(aud=["graft", 1]))), "jwt audience"),
    ("iss wrong", "three", rs(claims(iss="https://login.example.evil")), "jwt issuer"),
    ("iss missing", "three", rs(claims(iss=None)), "jwt issuer"),
    ("adapter a number", "three", rs(claims(adapter=3)), "jwt adapter"),
    ("adapter empty", "three", rs(claims(adapter="")), "jwt adapter"),
    ("adapter with a blank", "three", rs(claims(adapter="fin ance")), "jwt adapter"),
    ("adapters a text", "three", rs(claims(adapters="finance")), "jwt adapters"),
    ("adapters with a number", "three", rs(claims(adapters=["finance", 1])), "jwt adapters"),
    ("tenant a number", "three", rs(claims(tenant=7)), "jwt tenant"),
]
print(json.dumps({"now": NOW, "secret": SECRET, "rsa": pem(RSA), "ec": pem(EC), "small": pem(SMALL), "ec384": pem(EC384),
                  "cases": [{"name": n, "keys": k, "token": t, "why": w} for n, k, t, w in cases]}, indent=0))
