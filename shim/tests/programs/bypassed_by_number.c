#include "by_number.h"
#include "bypassed.c"
