"""Values as bytes, one way only: field types, canonical CBOR, Merkle trees."""
