// Package kafka is the door for Kafka's clients: producers, consumers, groups,
// share groups, transactions and administration, as unmodified clients speak
// them (Kafka protocol, record batch v2 only).
//
// There are few types. A Server is a wire.Protocol over one broker. A
// connection reads requests one after the other; each has a reply, and replies
// leave in the order of their requests. A handler stands in the one table in
// handlers.go with the versions that it serves: ApiVersions says exactly what
// is there.
//
// Batches are opaque here. Produce checks a batch's header and checksum and
// hands its bytes to the partition; Fetch writes bytes of the log to the
// socket. Neither looks into a compressed batch.
//
// Each file is about one request, or a few that belong together, and begins
// with their versions and what they do that is worth knowing.
package kafka
