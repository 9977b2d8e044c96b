package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/auth"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
)

// The administration of rules and users: DescribeAcls, CreateAcls, DeleteAcls 1–3,
// DescribeUserScramCredentials and AlterUserScramCredentials 0 (KIP-554). Where nobody is
// asked who they are, Kafka calls it SECURITY_DISABLED.

const noACLs = "No Authorizer is configured."

func (c *connection) secured() bool { return c.server.options.Authenticate != nil }

// ruleName is what a resource is called in a rule.
func ruleName(r kmsg.ACLResourceType, name string) string {
	if destination.ResourceType(r) == destination.ResourceTopic && name != destination.AnyName {
		return record.DestinationName(name)
	}
	return name
}

// resourceName is the reverse.
func resourceName(a destination.ACL) string {
	if a.Resource == destination.ResourceTopic && a.Name != destination.AnyName {
		return record.TopicName(a.Name)
	}
	return a.Name
}

func filterOf(r kmsg.ACLResourceType, name *string, pattern kmsg.ACLResourcePatternType, principal, host *string, op kmsg.ACLOperation, permission kmsg.ACLPermissionType) destination.ACLFilter {
	f := destination.ACLFilter{
		Resource: destination.ResourceType(r), Pattern: destination.PatternType(pattern), Principal: principal, Host: host,
		Operation: destination.Access(op), Effect: destination.Effect(permission),
	}
	if name != nil {
		n := ruleName(r, *name)
		f.Name = &n
	}
	return f
}

func (c *connection) describeACLs(ctx context.Context, r *kmsg.DescribeACLsRequest) *kmsg.DescribeACLsResponse {
	response := r.ResponseKind().(*kmsg.DescribeACLsResponse)
	if !c.secured() {
		text := noACLs
		response.ErrorCode, response.ErrorMessage = codeSecurityDisabled, &text
		return response
	}
	rules, err := c.server.broker.ListACLs(ctx, filterOf(r.ResourceType, r.ResourceName, r.ResourcePatternType, r.Principal, r.Host, r.Operation, r.PermissionType))
	response.ErrorCode = codeOf(err)
	for _, rule := range rules { // those of one resource stand together
		n := len(response.Resources)
		if n == 0 || destination.ResourceType(response.Resources[n-1].ResourceType) != rule.Resource ||
			response.Resources[n-1].ResourceName != resourceName(rule) || destination.PatternType(response.Resources[n-1].ResourcePatternType) != rule.Pattern {
			of := kmsg.NewDescribeACLsResponseResource()
			of.ResourceType, of.ResourceName = kmsg.ACLResourceType(rule.Resource), resourceName(rule)
			of.ResourcePatternType = kmsg.ACLResourcePatternType(rule.Pattern)
			response.Resources = append(response.Resources, of)
			n++
		}
		a := kmsg.NewDescribeACLsResponseResourceACL()
		a.Principal, a.Host, a.Operation, a.PermissionType = rule.Principal, rule.Host, kmsg.ACLOperation(rule.Operation), kmsg.ACLPermissionType(rule.Effect)
		response.Resources[n-1].ACLs = append(response.Resources[n-1].ACLs, a)
	}
	return response
}

func (c *connection) createACLs(ctx context.Context, r *kmsg.CreateACLsRequest) *kmsg.CreateACLsResponse {
	response := r.ResponseKind().(*kmsg.CreateACLsResponse)
	for _, q := range r.Creations {
		a := kmsg.NewCreateACLsResponseResult()
		err := c.mayAdminister()
		if err == nil {
			err = c.server.broker.CreateACLs(ctx, destination.ACL{
				Resource: destination.ResourceType(q.ResourceType), Name: ruleName(q.ResourceType, q.ResourceName),
				Pattern: destination.PatternType(q.ResourcePatternType), Principal: q.Principal, Host: q.Host,
				Operation: destination.Access(q.Operation), Effect: destination.Effect(q.PermissionType),
			})
		}
		a.ErrorCode, a.ErrorMessage = c.securityCode(err)
		response.Results = append(response.Results, a)
	}
	return response
}

func (c *connection) deleteACLs(ctx context.Context, r *kmsg.DeleteACLsRequest) *kmsg.DeleteACLsResponse {
	response := r.ResponseKind().(*kmsg.DeleteACLsResponse)
	for _, q := range r.Filters {
		a := kmsg.NewDeleteACLsResponseResult()
		var deleted []destination.ACL
		err := c.mayAdminister()
		if err == nil {
			deleted, err = c.server.broker.DeleteACLs(ctx, filterOf(q.ResourceType, q.ResourceName, q.ResourcePatternType, q.Principal, q.Host, q.Operation, q.PermissionType))
		}
		a.ErrorCode, a.ErrorMessage = c.securityCode(err)
		for _, rule := range deleted {
			m := kmsg.NewDeleteACLsResponseResultMatchingACL()
			m.ResourceType, m.ResourceName = kmsg.ACLResourceType(rule.Resource), resourceName(rule)
			m.ResourcePatternType = kmsg.ACLResourcePatternType(rule.Pattern)
			m.Principal, m.Host, m.Operation, m.PermissionType = rule.Principal, rule.Host, kmsg.ACLOperation(rule.Operation), kmsg.ACLPermissionType(rule.Effect)
			a.MatchingACLs = append(a.MatchingACLs, m)
		}
		response.Results = append(response.Results, a)
	}
	return response
}

// mayAdminister says whether the peer may change rules and users.
func (c *connection) mayAdminister() error {
	if !c.secured() {
		return coded(codeSecurityDisabled, noACLs)
	}
	return c.server.broker.Authorize(c.principal(), session.OperationAdminister, "")
}

// securityCode is an error of rules and users as a code and a text.
func (c *connection) securityCode(err error) (int16, *string) {
	if err == nil {
		return codeNone, nil
	}
	text, code := err.Error(), changeCode(err)
	if code == codeTopicAuthorizationFailed {
		code = codeClusterAuthFailed
	}
	return code, &text
}

// The mechanisms by the numbers of KIP-554.
var scramMechanisms = map[int8]string{1: auth.SHA256, 2: auth.SHA512}

func (c *connection) describeUsers(ctx context.Context, r *kmsg.DescribeUserSCRAMCredentialsRequest) *kmsg.DescribeUserSCRAMCredentialsResponse {
	response := r.ResponseKind().(*kmsg.DescribeUserSCRAMCredentialsResponse)
	var names []string
	if r.Users == nil {
		users, err := c.server.broker.ListUsers(ctx)
		response.ErrorCode = codeOf(err)
		for _, u := range users {
			names = append(names, u.Name)
		}
	}
	for _, u := range r.Users {
		names = append(names, u.Name)
	}
	for _, name := range names {
		a := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		a.User = name
		for number := int8(1); number <= 2; number++ {
			if v, known := c.server.broker.Authority().Verifier(name, scramMechanisms[number]); known {
				info := kmsg.NewDescribeUserSCRAMCredentialsResponseResultCredentialInfo()
				info.Mechanism, info.Iterations = number, int32(v.Iterations)
				a.CredentialInfos = append(a.CredentialInfos, info)
			}
		}
		if len(a.CredentialInfos) == 0 {
			text := "there is no such user"
			a.ErrorCode, a.ErrorMessage = codeResourceNotFound, &text
		}
		response.Results = append(response.Results, a)
	}
	return response
}

const codeResourceNotFound int16 = 91

func (c *connection) alterUsers(_ context.Context, r *kmsg.AlterUserSCRAMCredentialsRequest) *kmsg.AlterUserSCRAMCredentialsResponse {
	response := r.ResponseKind().(*kmsg.AlterUserSCRAMCredentialsResponse)
	authority := c.server.broker.Authority()
	answered := map[string]int{}
	answer := func(name string, err error) {
		i, there := answered[name]
		if !there {
			i = len(response.Results)
			answered[name] = i
			a := kmsg.NewAlterUserSCRAMCredentialsResponseResult()
			a.User = name
			response.Results = append(response.Results, a)
		}
		if a := &response.Results[i]; a.ErrorCode == codeNone && err != nil {
			a.ErrorCode, a.ErrorMessage = c.securityCode(err)
		}
	}
	for _, d := range r.Deletions {
		mechanism, known := scramMechanisms[d.Mechanism]
		err := c.mayAdminister()
		switch {
		case err != nil:
		case !known:
			err = coded(codeUnsupportedSASLMechanism, fmt.Sprintf("there is no mechanism %d", d.Mechanism))
		default:
			if err = authority.DeleteUser(d.Name, mechanism); err != nil {
				err = coded(codeResourceNotFound, err.Error())
			}
		}
		answer(d.Name, err)
	}
	for _, u := range r.Upsertions {
		mechanism, known := scramMechanisms[u.Mechanism]
		err := c.mayAdminister()
		if err == nil && !known {
			err = coded(codeUnsupportedSASLMechanism, fmt.Sprintf("there is no mechanism %d", u.Mechanism))
		}
		var v auth.Verifier
		if err == nil {
			if v, err = auth.FromSalted(mechanism, int(u.Iterations), u.Salt, u.SaltedPassword); err != nil {
				err = coded(codeUnacceptableCredential, err.Error())
			}
		}
		if err == nil {
			err = authority.PutVerifier(u.Name, mechanism, v)
		}
		answer(u.Name, err)
	}
	return response
}

const codeUnacceptableCredential int16 = 93
