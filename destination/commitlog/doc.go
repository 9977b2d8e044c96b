// Package commitlog keeps append logs in Kafka's segment format behind one journal.
package commitlog
