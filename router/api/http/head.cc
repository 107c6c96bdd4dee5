#include "router/api/http/head.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

namespace mili::router {
namespace {

constexpr size_t kMaxRequestIdBytes = 128;

const char* ReasonOf(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Payload Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Unknown";
  }
}

void AppendCommon(int status, const HttpHeaders& headers, const std::string& request_id,
                  const ResponseFraming& framing, std::string* to) {
  absl::StrAppend(to, "HTTP/1.1 ", status, " ", ReasonOf(status), "\r\n");
  if (!request_id.empty()) absl::StrAppend(to, "x-request-id: ", request_id, "\r\n");
  for (const auto& [name, value] : headers) absl::StrAppend(to, name, ": ", value, "\r\n");
  if (!framing.keep_alive) {
    *to += "Connection: close\r\n";
  } else if (framing.http10) {
    *to += "Connection: keep-alive\r\n";
  }
}

}  // namespace

std::string RenderReply(const HttpReply& reply, const std::string& request_id,
                        const ResponseFraming& framing) {
  std::string bytes;
  bytes.reserve(reply.body.size() + 256);
  AppendCommon(reply.status, reply.headers, request_id, framing, &bytes);
  if (reply.status != 204) {
    absl::StrAppend(&bytes, "Content-Type: ", reply.content_type,
                    "\r\nContent-Length: ", reply.body.size(), "\r\n");
  }
  bytes += "\r\n";
  if (!framing.is_head && reply.status != 204) bytes += reply.body;
  return bytes;
}

std::string RenderStreamHead(const HttpHeaders& headers, const std::string& request_id,
                             const ResponseFraming& framing) {
  std::string bytes;
  AppendCommon(200, headers, request_id, framing, &bytes);
  bytes +=
      "Content-Type: text/event-stream; charset=utf-8\r\n"
      "Cache-Control: no-cache\r\n"
      "X-Accel-Buffering: no\r\n";
  if (!framing.http10) bytes += "Transfer-Encoding: chunked\r\n";
  bytes += "\r\n";
  return bytes;
}

std::string RenderStreamPiece(const HttpStreamSource::Piece& piece,
                              const ResponseFraming& framing) {
  if (framing.http10) return piece.bytes;
  std::string bytes;
  if (!piece.bytes.empty()) {
    absl::StrAppend(&bytes, absl::Hex(piece.bytes.size()), "\r\n", piece.bytes, "\r\n");
  }
  if (piece.done) bytes += "0\r\n\r\n";
  return bytes;
}

std::string CleanRequestId(const std::string& id) {
  if (id.size() > kMaxRequestIdBytes) return "";
  for (const char c : id) {
    if (!absl::ascii_isgraph(static_cast<unsigned char>(c))) return "";
  }
  return id;
}

}  // namespace mili::router
