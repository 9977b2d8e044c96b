package kafka

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersions 0–5. A version that is not served is answered in version 0 with
// code 35 (KIP-511), which connection.handle does. Version 3 says who the
// client is, version 5 whom it believes to talk to, and is told to ask anew if
// that is somebody else (KIP-1242). The finalized features say which protocols
// clients may use: transaction.version 2 is KIP-890, group.version 1 is KIP-848,
// share.version 1 is KIP-932.
//
// librdkafka does not compress unless it is offered Produce 0 (KAFKA-18659),
// whatever its user has named the client. So Produce 0–2 are offered, and refused
// with UNSUPPORTED_VERSION when they come, but not to clients who are known to
// need no such thing: an old version that they are set to fails at once there.

// withoutOldProduce are the clients that are offered Produce from 3 on, by
// client.software.name or, before version 3, by the client id that is their
// default.
var withoutOldProduce = []string{"apache-kafka-java", "kgo"}

// features are finalized at level, and nothing else is supported.
var features = []struct {
	name  string
	level int16
}{
	{"group.version", 1},
	{"share.version", 1},
	{"transaction.version", 2},
}

func (c *connection) apiVersions(_ context.Context, r *kmsg.ApiVersionsRequest) *kmsg.ApiVersionsResponse {
	response := r.ResponseKind().(*kmsg.ApiVersionsResponse)
	if r.Version >= 3 && (!validSoftware(r.ClientSoftwareName) || !validSoftware(r.ClientSoftwareVersion)) {
		response.ErrorCode = codeInvalidRequest
		return response
	}
	if r.Version >= 5 {
		switch known := r.ClusterID != nil; {
		case known != (r.NodeID != -1):
			response.ErrorCode = codeInvalidRequest
			return response
		case known && (*r.ClusterID != c.server.broker.ClusterID() || r.NodeID != c.server.options.NodeID):
			response.ErrorCode = codeRebootstrapRequired
			return response
		}
	}
	c.software = r.ClientSoftwareName + " " + r.ClientSoftwareVersion
	response.ApiKeys = advertised()
	name := r.ClientSoftwareName
	if r.Version < 3 {
		name = c.clientID
	}
	if slices.Contains(withoutOldProduce, name) {
		response.ApiKeys[0].MinVersion = 3 // Produce is the first by key
	}
	response.FinalizedFeaturesEpoch = 1
	for _, f := range features {
		s := kmsg.NewApiVersionsResponseSupportedFeature()
		s.Name, s.MinVersion, s.MaxVersion = f.name, 0, f.level
		if r.Version < 4 {
			s.MinVersion = 1 // before, 0 is not legal (KIP-1022)
		}
		response.SupportedFeatures = append(response.SupportedFeatures, s)
		l := kmsg.NewApiVersionsResponseFinalizedFeature()
		l.Name, l.MinVersionLevel, l.MaxVersionLevel = f.name, f.level, f.level
		response.FinalizedFeatures = append(response.FinalizedFeatures, l)
	}
	return response
}

// validSoftware is KIP-511's [a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?.
func validSoftware(s string) bool {
	for i := range len(s) {
		alphanumeric := s[i] >= 'a' && s[i] <= 'z' || s[i] >= 'A' && s[i] <= 'Z' || s[i] >= '0' && s[i] <= '9'
		if !alphanumeric && (i == 0 || i == len(s)-1 || s[i] != '-' && s[i] != '.') {
			return false
		}
	}
	return s != ""
}
