"""Identity: who somebody is, by the word of an OpenID Connect issuer or of the product itself."""
