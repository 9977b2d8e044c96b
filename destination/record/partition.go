package record

// Partition picks one of partitions for a record: by its key as Kafka's
// default partitioner does, or for a null key by its producer, so that what
// one producer sends stays in order. Client and broker share it.
func Partition(key []byte, producer uint64, partitions int) int {
	switch {
	case partitions <= 1:
		return 0
	case key != nil:
		return int(murmur2(key)&0x7fffffff) % partitions
	}
	return int(producer % uint64(partitions))
}

// murmur2 is Kafka's: seed 0x9747b28c, little endian.
func murmur2(data []byte) uint32 {
	const m = 0x5bd1e995
	h := uint32(0x9747b28c) ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16 | uint32(data[3])<<24
		k *= m
		k ^= k >> 24
		h = h*m ^ k*m
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(data[0])) * m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
