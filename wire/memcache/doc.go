// Package memcache is the door for clients of memcached, as MemcacheQ is one: set
// puts a message into the queue that the key names, get takes one. It is memcached's
// text protocol (protocol.txt), of which a cache's other verbs are refused.
package memcache
