// Package xa keeps the prepared branches of distributed transactions (X/Open XA,
// as Jakarta Messaging 3.1 §6.2.8 and Jakarta Transactions 2.0 §3.4 want it), and
// ends them.
//
// A branch that is not prepared is its session's, and is gone with it. To prepare
// it, the cursors hold what it acknowledges, and what says so is one entry of the
// journal with a record of __xa_state, which has what it sends. From then on it
// survives anything, until it ends:
//
//	commit     its batches are appended to their logs, in one entry of the journal
//	           with a record that says "committing"; then every cursor ends its hold
//	           as acknowledged; when all of that is on disk, too, a tombstone follows
//	rollback   a tombstone; then every cursor ends its hold, and what it held is
//	           delivered again
//
// After a crash the records say what a hold means: one of a branch that commits is
// acknowledged, one without a branch is available again, and one of a prepared
// branch stays. The format is in docs/format/xa-state.md.
package xa
