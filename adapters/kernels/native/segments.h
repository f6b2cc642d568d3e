// Segments: which rows run under which parameters, and where these begin in the arena.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "calls.h"

namespace chorus {

struct Segments {
    const int32_t* bounds;  // [count, 2] first row, and one past the last
    int64_t count;
};

// Up to `BLOCK` rows of one segment: what one task does.
struct Block {
    long segment, first, rows;
};

constexpr long BLOCK = 64;

inline std::vector<Block> blocks_of(const Segments& segments, long rows) {
    std::vector<Block> blocks;
    std::vector<std::pair<int32_t, int32_t>> ranges;
    for (long i = 0; i < segments.count; ++i) {
        const int32_t first = segments.bounds[2 * i], end = segments.bounds[2 * i + 1];
        if (first < 0 || end < first || end > rows) throw Refusal{bad_bounds};
        if (first < end) ranges.emplace_back(first, end);
        for (long row = first; row < end; row += BLOCK) blocks.push_back({i, row, std::min<long>(BLOCK, end - row)});
    }
    std::sort(ranges.begin(), ranges.end());
    for (std::size_t i = 1; i < ranges.size(); ++i)
        if (ranges[i].first < ranges[i - 1].second) throw Refusal{bad_bounds};
    return blocks;
}

inline void check_offsets(const int64_t* offsets, long count, long placed, long arena) {
    for (long i = 0; offsets != nullptr && i < count; ++i)
        if (offsets[i] < 0 || offsets[i] > arena - placed) throw Refusal{bad_offsets};
}

}  // namespace chorus
