package subject

// Clamp is tested at its limit, but not below it.
func Clamp(v, limit int) int {
	if v > limit {
		return limit
	}
	return v
}
