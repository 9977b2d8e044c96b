// Package confluent makes what confluent-kafka-go's own tests import a
// dependency of this module, so that they can be built from here:
//
//	go test -c github.com/confluentinc/confluent-kafka-go/v2/kafka
package confluent

import (
	_ "github.com/confluentinc/confluent-kafka-go/v2/kafka"
	_ "github.com/stretchr/testify/assert"
	_ "github.com/stretchr/testify/suite"
	_ "github.com/testcontainers/testcontainers-go/modules/compose"
)
