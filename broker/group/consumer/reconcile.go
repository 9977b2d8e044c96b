package consumer

import "maps"

// reconcile is the next step of a member to its target. What it says that it
// owns may be nil: then it said nothing, and nothing is taken for revoked.
func (g *Group) reconcile(m *member, topics Topics, owned map[Partition]bool, subscriptionChanged bool) currentValue {
	if m.reconciled(g.targetEpoch) {
		return m.currentValue
	}
	subscribed := g.topicsOf(m, topics)
	if m.state == unrevoked && owns(owned, m.revoking) {
		if subscriptionChanged {
			return m.unsubscribed(subscribed)
		}
		return m.currentValue
	}
	return g.next(m, subscribed, owned)
}

// owns tells whether a member may still own any of the partitions.
func owns(owned map[Partition]bool, partitions map[Partition]int32) bool {
	if owned == nil {
		return true
	}
	for p := range partitions {
		if owned[p] {
			return true
		}
	}
	return false
}

// unsubscribed has the member give up, too, what it does not subscribe to any
// more, while it is still busy giving up other partitions.
func (m *member) unsubscribed(subscribed map[[16]byte]Topic) currentValue {
	v := m.currentValue
	v.assigned, v.revoking = maps.Clone(m.assigned), maps.Clone(m.revoking)
	for p, epoch := range m.assigned {
		if _, ok := subscribed[p.Topic]; !ok {
			delete(v.assigned, p)
			v.revoking[p] = epoch
		}
	}
	if len(v.revoking) == len(m.revoking) {
		return m.currentValue
	}
	return v
}

// next is a step from what the member owns to its target, when nothing is left
// of what it had to give up.
func (g *Group) next(m *member, subscribed map[[16]byte]Topic, owned map[Partition]bool) currentValue {
	v := currentValue{
		epoch: m.epoch, previousEpoch: m.previousEpoch,
		assigned: map[Partition]int32{}, revoking: map[Partition]int32{},
	}
	var free []Partition
	waits := false
	for _, p := range m.target {
		if _, ok := subscribed[p.Topic]; !ok {
			continue
		}
		if epoch, ok := m.assigned[p]; ok {
			v.assigned[p] = epoch
		} else if owner, taken := g.owners[p]; taken && owner != m.id {
			waits = true
		} else {
			free = append(free, p)
		}
	}
	for p, epoch := range m.assigned {
		if _, ok := v.assigned[p]; !ok {
			v.revoking[p] = epoch
		}
	}
	if len(v.revoking) > 0 && owns(owned, v.revoking) {
		// It stays at its epoch until it says that it owns none of them. From
		// now on that has to be said with this epoch, not the one before.
		v.state, v.previousEpoch = unrevoked, m.epoch
		return v
	}
	clear(v.revoking)
	for _, p := range free {
		v.assigned[p] = g.targetEpoch
	}
	if waits {
		v.state = unreleased
	}
	return v.at(g.targetEpoch)
}
