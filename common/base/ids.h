// Strong ids: a page is no slot. Token ids stay plain integers, since arrays of them go to kernels.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <ostream>

namespace mili {

template <typename Tag, typename Rep>
struct NamedId {
  using rep_type = Rep;
  Rep value = 0;

  constexpr NamedId() = default;
  constexpr explicit NamedId(Rep v) : value(v) {}
  friend constexpr auto operator<=>(NamedId, NamedId) = default;
  friend std::ostream& operator<<(std::ostream& out, NamedId id) { return out << id.value; }
  template <typename H>
  friend H AbslHashValue(H h, NamedId id) {
    return H::combine(std::move(h), id.value);
  }
};

using TokenId = uint32_t;
// A fixed run of KV token slots in the worker's arena.
using PageId = NamedId<struct PageTag, uint32_t>;
// A sequence's row in the worker.
using SlotId = NamedId<struct SlotTag, uint32_t>;
// One life of a group; 0 means none.
using Epoch = NamedId<struct EpochTag, uint64_t>;
// One forward pass within an epoch, from 1.
using StepId = NamedId<struct StepTag, uint64_t>;
// The router's own name of a request, unique over its life; clients' ids are strings.
using RequestKey = NamedId<struct RequestTag, uint64_t>;

}  // namespace mili

template <typename Tag, typename Rep>
struct std::hash<mili::NamedId<Tag, Rep>> {
  size_t operator()(mili::NamedId<Tag, Rep> id) const noexcept {
    return std::hash<Rep>()(id.value);
  }
};
