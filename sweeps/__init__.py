"""The declaration layer: YAML -> validated sweep -> cells with identities -> shards -> plan."""
