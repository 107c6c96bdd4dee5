#include "common/text/word_batch.h"

#include <cstring>

namespace mili::text {

const char* WordBatch::AddPieces(const char* word, size_t size) {
  const char* const end = word + size;
  const char* begin = word;
  for (const char* p = word;; p += WordSeams::kReach - 3) {
    const size_t left = end - p;
    const char* readable = p;
    char copy[WordSeams::kReach];
    if (readable_end_ - p < static_cast<ptrdiff_t>(WordSeams::kReach)) {
      std::memset(copy, 0, sizeof(copy));
      std::memcpy(copy, p, left);
      readable = copy;
    }
    uint64_t places = WordSeams::PlacesFrom(readable, left);
    size_t count = size_;
    for (; places != 0; places &= places - 1) {
      const int at = std::countr_zero(places);
      const char* const place = p + at;
      words_[count] = {begin, static_cast<size_t>(place - begin)};
      // Whether there is a seam is hard to predict, and no branch.
      const size_t seam = seams_->IsAt(readable + at) ? 1 : 0;
      count += seam;
      begin += (place - begin) & -seam;
    }
    size_ = count;
    if (size_ >= kMaxWords) Flush();
    if (left <= WordSeams::kReach) return begin;
  }
}

}  // namespace mili::text
