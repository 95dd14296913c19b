package keystest

// ForeignTPMKey is the file of a key that no TPM here made: its public part is
// whole, its private part is nothing.
const ForeignTPMKey = `-----BEGIN TSS2 PRIVATE KEY-----
MIIBNAYGZ4EFCgEDoAMBAf8CBEAAAAEEggEYARYAAQALAAYEcgAAABAAEAgAAAAA
AAEAyZO6snVw94Ph/H6iHI/gmotPfgdOU9ntDxsdbI+UJmwKP8Ye9l1TkZNyvlxf
2Q1cM/+CLwyZKDEvyRLjZJl2CxxK5F4wK5u5fvIWYgYCrhi2n7G+fXtMWmJW8mOa
7NBYMADnezA8pNMG0yd5ksVIjLzXg7IvEv6GX+4djiB2Hb48FmgxwWPoNxv7TPjM
ZVrdKzjbL4bWnQzK1a9Zysqx6hRMTXYDvXZFz53ZZmBF7sjjM5/2l+nefGRaEsiK
blcZU1wgOlHc8pJ0/RMGh6CwmtsuvPc1idxJuuVbhYkCc87OjHkZzROwqCPEmMcS
vet/9Woa8NCSDhXjASEmCMQqYQQDAAEC
-----END TSS2 PRIVATE KEY-----
`
