// What a caller may ask of the library itself.
#include "calls.h"

namespace chorus {

thread_local char message[MESSAGE] = "";

}  // namespace chorus

extern "C" const char* chorus_message() { return chorus::message; }
