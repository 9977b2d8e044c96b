// Package amqp is the door for AMQP 1.0 (OASIS, 2012): for JMS clients of Java, by
// the AMQP JMS mapping, and for clients of other languages.
package amqp
