package consumer

// Owns tells what a record of __consumer_offsets is about, by its key: the id
// of the group, and whether a Group or a ShareGroup wants to Replay it. It is
// neither for offsets, classic groups and what is not known here.
func Owns(key []byte) (group string, consumer, share bool) { return "", false, false }
