// One translation, opened up: a self-contained HTML page with a heat map per layer and head (encoder, decoder, cross).
//
// The page is viewer/index.html with its style sheet, its script and the numbers written into it: it needs no network
// and no server, and works from file://. This header knows tokens and weights only, so any model can fill it.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace attune::train {

/// Whose attention a map shows. Rows are queries, columns are keys.
enum class AttentionKind : std::uint8_t {
  encoder,  // source reads source: [Ts, Ts]
  decoder,  // target reads what was written before: [Tt, Tt]
  cross     // target reads source: [Tt, Ts]
};
/// "encoder", "decoder", "cross".
std::string_view name_of(AttentionKind kind);

/// The weights of one head of one layer.
struct AttentionMap {
  AttentionKind kind = AttentionKind::cross;
  int layer = 0, head = 0;          // counted from 0; the page counts from 1
  std::int64_t rows = 0, cols = 0;  // queries, keys
  std::vector<float> weights;       // [rows, cols], each in 0 .. 1
};

/// What the page shows. Tokens are UTF-8 and are shown as they are, word marks included.
struct AttentionPage {
  std::string title;                       // also the title of the browser's tab
  std::string source_text, target_text;    // the sentences as a person reads them; empty: not shown
  std::vector<std::string> source_tokens;  // [Ts] what the encoder reads, end mark included
  std::vector<std::string> target_tokens;  // [Tt] what the decoder writes: row t of decoder and cross maps wrote this
  std::vector<std::string> target_inputs;  // [Tt] what the decoder reads: column t of decoder maps; begins with the
                                           // start mark. Empty: the same as target_tokens.
  std::vector<AttentionMap> maps;          // any order; the page sorts by kind, layer, head
  std::vector<std::pair<std::string, std::string>>
      facts;  // lines under the title: {"model", "2 + 2 layers, width 128"}
};

/// The page as one HTML text. Weights are stored in ten-thousandths.
///
/// Throws  Error if a map's extents disagree with the tokens or with its number of weights, if a weight is not finite
///         or leaves [0, 1] by more than rounding (1e-3), or if a text is not UTF-8.
std::string attention_page_html(const AttentionPage& page);

/// Writes the page to `path`, complete or not at all. Throws Error as attention_page_html, and if it cannot be written.
void write_attention_page(const std::filesystem::path& path, const AttentionPage& page);

}  // namespace attune::train
