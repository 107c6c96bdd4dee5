// Times the GPU's linear layers on the matrices of Qwen3-0.6B and 8B: the skinny kernel plain and
// as a programmatic dependent (with and without room for the next kernel's block beside it), the
// wide kernel (its first and its best cut, as groups.splits), the gated kernel by its two tiles and
// cublasLt (its first and its best heuristic). Prints microseconds a call beside the limit; see
// cuda_linear_timer.h.
//
//   cuda_linear_bench [--fp8] [--layer] [--cuts] [--candidates=8] [--rows=1,2,4,8,16] [--model=8B]
//       [--matrix=qkv]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/bench/cuda_linear_timer.h"

namespace {

using mili::kernels::cuda::BenchMatrix;
using mili::kernels::cuda::kMaxSkinnyRows;
using mili::kernels::cuda::LinearTimer;
using mili::kernels::cuda::WideCut;

constexpr BenchMatrix kMatrices[] = {
    {"0.6B", "qkv", 4096, 1024, false, false, false},
    {"0.6B", "o", 1024, 2048, false, true, false},
    {"0.6B", "gate+up", 6144, 1024, true, false, false},
    {"0.6B", "down", 1024, 3072, false, true, false},
    {"8B", "qkv", 6144, 4096, false, false, false},
    {"8B", "o", 4096, 4096, false, true, false},
    {"8B", "gate+up", 24576, 4096, true, false, false},
    {"8B", "down", 4096, 12288, false, true, false},
    {"head", "0.6B", 151936, 1024, false, false, true},
    {"head", "8B", 151936, 4096, false, false, true},
};

struct Settings {
  bool is_fp8 = false;
  bool is_chain = false;
  bool lists_cuts = false;
  std::string model;  // all if empty
  std::string matrix;
  int candidates = 0;
  std::vector<int> rows = {1, 2, 4, 8, 16};
};

Settings Parse(int argc, char** argv) {
  Settings s;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--fp8") s.is_fp8 = true;
    if (arg == "--layer") s.is_chain = true;
    if (arg == "--cuts") s.lists_cuts = true;
    if (arg.rfind("--model=", 0) == 0) s.model = arg.substr(8);
    if (arg.rfind("--matrix=", 0) == 0) s.matrix = arg.substr(9);
    if (arg.rfind("--candidates=", 0) == 0) s.candidates = std::atoi(arg.c_str() + 13);
    if (arg.rfind("--rows=", 0) == 0) {
      s.rows.clear();
      for (const char* p = arg.c_str() + 7; *p != 0; p += *p == ',') {
        s.rows.push_back(static_cast<int>(std::strtol(p, const_cast<char**>(&p), 10)));
      }
    }
  }
  return s;
}

void TimeLayer(LinearTimer* timer, const BenchMatrix* layer, const Settings& settings) {
  std::printf("%-5s %4s %8s | %8s %8s %8s %8s | %8s\n", "layer", "rows", "limit", "no pdl", "pdl",
              "unpaired", "norms", "wide");
  for (const int m : settings.rows) {
    double limit = 0.0;
    for (int i = 0; i < 4; ++i) limit += timer->LimitUs(layer[i], m);
    const bool is_few = m <= kMaxSkinnyRows;
    const double plain = is_few ? timer->Layer(layer, m, {.pdl = false}) : -1;
    const double pdl = is_few ? timer->Layer(layer, m, {}) : -1;
    const double unpaired = is_few ? timer->Layer(layer, m, {.is_paired = false}) : -1;
    const double norms = is_few ? timer->Layer(layer, m, {.fuses_norm = false}) : -1;
    const double wide =
        settings.is_fp8 ? -1 : timer->Layer(layer, m, {.fuses_norm = false, .is_wide = true});
    std::printf("%-5s %4d %8.2f | %8.2f %8.2f %8.2f %8.2f | %8.2f\n", layer->model, m, limit, plain,
                pdl, unpaired, norms, wide);
    std::fflush(stdout);
  }
}

void TimeMatrix(LinearTimer* timer, const BenchMatrix& matrix, int m, const Settings& settings) {
  const bool is_few = m <= kMaxSkinnyRows;
  const double plain = is_few ? timer->Skinny(matrix, m, false, true) : -1;
  const double pdl = is_few ? timer->Skinny(matrix, m, true, true) : -1;
  const double unpaired = is_few ? timer->Skinny(matrix, m, true, false) : -1;
  const std::vector<LinearTimer::CutTime> cuts = timer->Wide(matrix, m);
  const auto faster = [](double a, double b) { return a > 0 && (b <= 0 || a < b); };
  const LinearTimer::CutTime wide = *std::min_element(
      cuts.begin(), cuts.end(), [&](const auto& a, const auto& b) { return faster(a.us, b.us); });
  const std::vector<double> library = timer->Library(matrix, m, settings.candidates);
  const double library_first = library.empty() ? -1 : library.front();
  const double library_best =
      library.empty() ? -1 : *std::min_element(library.begin(), library.end(), faster);
  const double gated[] = {timer->Gated(matrix, m, 2), timer->Gated(matrix, m, 3)};
  double best = pdl;
  for (const double us : {unpaired, wide.us, gated[0], gated[1], library_best}) {
    if (faster(us, best)) best = us;
  }
  const double limit = timer->LimitUs(matrix, m);
  std::printf(
      "%-5s %-8s %4d | %8.2f | %8.2f %8.2f %8.2f | %8.2f %8.2f %d.%d | %8.2f %8.2f | %8.2f %8.2f | "
      "%5.1f%%\n",
      matrix.model, matrix.name, m, limit, pdl, unpaired, plain, cuts.front().us, wide.us,
      wide.cut.groups, wide.cut.splits, gated[0], gated[1], library_first, library_best,
      100 * limit / best);
  if (settings.lists_cuts) {
    std::printf("     ");
    for (const auto& [cut, us] : cuts) {
      std::printf(" %d.%d %.2f", cut.groups, cut.splits, us);
    }
    std::printf("\n");
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const Settings settings = Parse(argc, argv);
  LinearTimer timer(settings.is_fp8);
  const auto is_wanted = [&](const BenchMatrix& matrix) {
    return (settings.model.empty() || settings.model == matrix.model) &&
           (settings.matrix.empty() || settings.matrix == matrix.name);
  };
  if (settings.is_chain) {
    for (const int first : {0, 4}) {
      if (is_wanted(kMatrices[first])) TimeLayer(&timer, kMatrices + first, settings);
    }
    return 0;
  }
  std::printf("%-5s %-8s %4s | %8s | %8s %8s %8s | %8s %8s %5s | %8s %8s | %8s %8s | %6s\n",
              "model", "matrix", "rows", "limit", "skinny", "unpaired", "no pdl", "wide 1st",
              "wide", "cut", "gated 2", "gated 3", "lt 1st", "lt", "best");
  for (const BenchMatrix& matrix : kMatrices) {
    if (!is_wanted(matrix)) continue;
    for (const int m : settings.rows) TimeMatrix(&timer, matrix, m, settings);
  }
  return 0;
}
