package commitlog

// LogInfo names a log and where it is.
type LogInfo struct {
	ID  LogID
	Dir string
}

// Logs lists the logs that the store knows, in no order: those that were
// opened, and those of the last start that nobody has opened again, so that
// their owner can delete what it has forgotten.
func (s *Store) Logs() []LogInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	logs := make([]LogInfo, 0, len(s.logs))
	for id, l := range s.logs {
		logs = append(logs, LogInfo{id, l.dir})
	}
	return logs
}
