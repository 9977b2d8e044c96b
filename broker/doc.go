// Package broker owns a data directory and the destinations in it.
//
// Its types are [Options] and [Broker]. A Broker opens the journaled logs in
// DIR/log and the metadata in DIR/metadata.db, and knows every destination by
// name. It creates one on first use, opens the queue view of a destination or
// a subscription when somebody first consumes from it, and keeps them open.
// Messages do not pass through here: a protocol asks once for a destination
// and a view, and from then on talks to those.
//
// Two goroutines belong to a Broker. The keeper goes round the destinations
// and deletes, cleans and compacts what is due. The watcher waits for a failed
// sync, of a log or of the metadata, and closes Failed: then nothing is
// confirmed any more, and the process has to end (reliability S3).
package broker
