package destination

// Operation is what a principal asks to do, for the broker's Authorize.
type Operation uint8

// The operations, and the resource that each names.
const (
	OperationConnect    Operation = iota // the client id, or empty
	OperationCreate                      // the destination's name, empty for a temporary one
	OperationDescribe                    // the destination's name
	OperationSend                        // the destination's name
	OperationConsume                     // the destination's name
	OperationBrowse                      // the destination's name
	OperationSubscribe                   // the subscription's name
	OperationAlter                       // the destination's name
	OperationDelete                      // the destination's or the subscription's name
	OperationAdminister                  // the verb
)
