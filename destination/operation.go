package destination

// Operation is what a principal asks to do, for the broker's Authorize.
type Operation uint8

// The operations, and the resource that each names.
const (
	OperationConnect             Operation = iota // the client id, or empty
	OperationCreate                               // the destination's name, empty for a temporary one
	OperationDescribe                             // the destination's name
	OperationSend                                 // the destination's name
	OperationConsume                              // the destination's name
	OperationBrowse                               // the destination's name
	OperationSubscribe                            // the subscription's or the group's name
	OperationAlter                                // the destination's name
	OperationDelete                               // the destination's name
	OperationDescribeConfigs                      // the destination's name
	OperationAlterConfigs                         // the destination's name
	OperationDescribeGroup                        // the subscription's or the group's name
	OperationDeleteGroup                          // the subscription's or the group's name
	OperationTransact                             // the transactional id
	OperationDescribeTransaction                  // the transactional id
	OperationIdempotentWrite                      // nothing
	OperationInspect                              // the broker as a whole: the verb
	OperationAdminister                           // likewise
)

// Need is what an operation asks for.
type Need struct {
	Resource ResourceType
	Access   Access
}

// needs are Kafka's where its protocol has the operation.
var needs = [...][]Need{
	OperationConnect:             nil,
	OperationCreate:              {{ResourceTopic, AccessCreate}, {ResourceCluster, AccessCreate}},
	OperationDescribe:            {{ResourceTopic, AccessDescribe}},
	OperationSend:                {{ResourceTopic, AccessWrite}},
	OperationConsume:             {{ResourceTopic, AccessRead}},
	OperationBrowse:              {{ResourceTopic, AccessRead}},
	OperationSubscribe:           {{ResourceGroup, AccessRead}},
	OperationAlter:               {{ResourceTopic, AccessAlter}},
	OperationDelete:              {{ResourceTopic, AccessDelete}},
	OperationDescribeConfigs:     {{ResourceTopic, AccessDescribeConfigs}},
	OperationAlterConfigs:        {{ResourceTopic, AccessAlterConfigs}},
	OperationDescribeGroup:       {{ResourceGroup, AccessDescribe}},
	OperationDeleteGroup:         {{ResourceGroup, AccessDelete}},
	OperationTransact:            {{ResourceTransactionalID, AccessWrite}},
	OperationDescribeTransaction: {{ResourceTransactionalID, AccessDescribe}},
	OperationIdempotentWrite:     {{ResourceCluster, AccessIdempotentWrite}},
	OperationInspect:             {{ResourceCluster, AccessDescribe}},
	OperationAdminister:          {{ResourceCluster, AccessAlter}},
}

// Needs is what it asks for, of which one is enough; nothing: that it be somebody. Of a
// cluster the resource is ClusterName.
func (o Operation) Needs() []Need { return needs[o] }

var operationNames = [...]string{
	OperationConnect: "connect", OperationCreate: "create", OperationDescribe: "describe", OperationSend: "send", OperationConsume: "consume",
	OperationBrowse: "browse", OperationSubscribe: "subscribe", OperationAlter: "alter", OperationDelete: "delete",
	OperationDescribeConfigs: "describe the settings of", OperationAlterConfigs: "alter the settings of",
	OperationDescribeGroup: "describe group", OperationDeleteGroup: "delete group", OperationTransact: "transact as",
	OperationDescribeTransaction: "describe the transactions of", OperationIdempotentWrite: "write idempotently",
	OperationInspect: "inspect the broker", OperationAdminister: "administer the broker",
}

// String is the operation as a verb, for errors.
func (o Operation) String() string {
	if int(o) < len(operationNames) {
		return operationNames[o]
	}
	return "unknown operation"
}
